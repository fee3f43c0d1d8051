// The part of LiteRT's C API that the runner calls, found in libLiteRt.so when it starts.
//
// The wheel brings the library but no headers, so the declarations are written out here, as of
// ai-edge-litert 2.3.0 (litert/c/*.h): since then LiteRtCreateModelFromFile takes the environment
// first. A library with another layout of the tensor type shows as a wrong shape, which is refused.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dfnet::litert {

using Handle = void*;
using Status = int;  // 0: kLiteRtStatusOk

constexpr int kAcceleratorCpu = 1, kAcceleratorGpu = 2;  // LiteRtHwAccelerators
constexpr int kLockRead = 0, kLockWrite = 1;             // LiteRtTensorBufferLockMode
constexpr size_t kSignature = 0;

// LiteRtRankedTensorType, with room for strides and what later versions may append.
struct TensorType {
  int32_t element;
  uint32_t rank : 7;
  uint32_t has_strides : 1;
  uint32_t : 24;
  int32_t dimensions[8];
  uint32_t room[64];
};

// Every function: result type, name, parameters.
#define DFNET_LITERT_FUNCTIONS(F)                                                                 \
  F(Status, LiteRtCreateEnvironment, int, const void*, Handle*)                                   \
  F(Status, LiteRtCreateModelFromFile, Handle, const char*, Handle*)                              \
  F(void, LiteRtDestroyModel, Handle)                                                             \
  F(Status, LiteRtGetNumModelSignatures, Handle, size_t*)                                         \
  F(Status, LiteRtGetModelSignature, Handle, size_t, Handle*)                                     \
  F(Status, LiteRtGetNumSignatureInputs, Handle, size_t*)                                         \
  F(Status, LiteRtGetNumSignatureOutputs, Handle, size_t*)                                        \
  F(Status, LiteRtGetSignatureInputName, Handle, size_t, const char**)                            \
  F(Status, LiteRtGetSignatureOutputName, Handle, size_t, const char**)                           \
  F(Status, LiteRtGetSignatureInputTensorByIndex, Handle, size_t, Handle*)                        \
  F(Status, LiteRtGetSignatureOutputTensorByIndex, Handle, size_t, Handle*)                       \
  F(Status, LiteRtGetRankedTensorType, Handle, TensorType*)                                       \
  F(Status, LiteRtCreateOptions, Handle*)                                                         \
  F(void, LiteRtDestroyOptions, Handle)                                                           \
  F(Status, LiteRtSetOptionsHardwareAccelerators, Handle, int)                                    \
  F(Status, LiteRtCreateOpaqueOptions, const char*, void*, void (*)(void*), Handle*)              \
  F(Status, LiteRtAddOpaqueOptions, Handle, Handle)                                               \
  F(Status, LiteRtCreateCompiledModel, Handle, Handle, Handle, Handle*)                           \
  F(void, LiteRtDestroyCompiledModel, Handle)                                                     \
  F(Status, LiteRtCompiledModelIsFullyAccelerated, Handle, bool*)                                 \
  F(Status, LiteRtCompiledModelIsNonCpuFullyAccelerated, Handle, bool*)                           \
  F(Status, LiteRtGetCompiledModelInputBufferRequirements, Handle, size_t, size_t, Handle*)       \
  F(Status, LiteRtGetCompiledModelOutputBufferRequirements, Handle, size_t, size_t, Handle*)      \
  F(Status, LiteRtCreateManagedTensorBufferFromRequirements, Handle, const TensorType*, Handle,   \
    Handle*)                                                                                      \
  F(void, LiteRtDestroyTensorBuffer, Handle)                                                      \
  F(Status, LiteRtGetTensorBufferPackedSize, Handle, size_t*)                                     \
  F(Status, LiteRtLockTensorBuffer, Handle, void**, int)                                          \
  F(Status, LiteRtUnlockTensorBuffer, Handle)                                                     \
  F(Status, LiteRtRunCompiledModel, Handle, size_t, size_t, Handle*, size_t, Handle*)

// The functions by their own names. Throws JobFailure at Stage::kLoad if one is missing.
class Api {
 public:
  Api();

#define DFNET_DECLARE(result, name, ...) result (*name)(__VA_ARGS__) = nullptr;
  DFNET_LITERT_FUNCTIONS(DFNET_DECLARE)
#undef DFNET_DECLARE
};

}  // namespace dfnet::litert
