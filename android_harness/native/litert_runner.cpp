// Runs a .tflite file with LiteRT's compiled models, as PROTOCOL.md says.

#include <dlfcn.h>
#include <string.h>

#include <cstdlib>
#include <cstring>

#include "engine.h"
#include "litert_api.h"

#ifndef DFNET_SDK
#error "Name the LiteRT that is run: -DDFNET_SDK='\"ai-edge-litert 2.3.0\"'"
#endif

namespace dfnet::litert {

Api::Api() {
  void* const library = dlopen("libLiteRt.so", RTLD_NOW | RTLD_LOCAL);
  if (!library) throw JobFailure(Stage::kLoad, std::string("LiteRT cannot be loaded: ") + dlerror());
#define DFNET_FIND(result, name, ...)                                        \
  name = reinterpret_cast<result (*)(__VA_ARGS__)>(dlsym(library, #name)); \
  if (!name) throw JobFailure(Stage::kLoad, "libLiteRt.so: got no " #name ", needed it");
  DFNET_LITERT_FUNCTIONS(DFNET_FIND)
#undef DFNET_FIND
}

namespace {

void require(Status status, Stage stage, const char* what) {
  if (status == 0) return;
  throw JobFailure(stage, std::string("LiteRT cannot ") + what + " (status " +
                              std::to_string(status) + ")");
}

// LiteRtElementType, which numbers types as TFLite does.
std::string dtype_of(int32_t element) {
  switch (element) {
    case 1: return "float32";
    case 2: return "int32";
    case 3: return "uint8";
    case 7: return "int16";
    case 9: return "int8";
    case 10: return "float16";
    default: return "unsupported type " + std::to_string(element);
  }
}

size_t index_of(const char* role, const Tensor& asked, const std::vector<std::string>& names) {
  std::string listed;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == asked.name) return i;
    listed += (i ? ", " : "") + names[i];
  }
  throw JobFailure(Stage::kLoad, std::string(role) + ": got '" + asked.name +
                                     "' in the job, needed one of the model's " + listed);
}

class LiteRtEngine : public Engine {
 public:
  LiteRtEngine(const Api& api, Handle environment, const std::string& path, const Job& job,
               const std::vector<Bytes>& inputs)
      : api_(api), environment_(environment), job_(job) {
    require(api_.LiteRtCreateModelFromFile(environment_, path.c_str(), &model_), Stage::kLoad,
            "load the model");
    compile();
    bind_signature();
    for (size_t i = 0; i < inputs.size(); ++i) write(inputs_[slots_in_[i]], inputs[i]);
  }

  ~LiteRtEngine() override {
    for (const Handle one : inputs_) api_.LiteRtDestroyTensorBuffer(one);
    for (const Handle one : outputs_) api_.LiteRtDestroyTensorBuffer(one);
    if (compiled_) api_.LiteRtDestroyCompiledModel(compiled_);
    if (model_) api_.LiteRtDestroyModel(model_);
  }

  void infer() override {
    require(api_.LiteRtRunCompiledModel(compiled_, kSignature, inputs_.size(), inputs_.data(),
                                        outputs_.size(), outputs_.data()),
            Stage::kRun, "run the model");
  }

  Bytes output(size_t index) override {
    const Handle buffer = outputs_[slots_out_[index]];
    Bytes bytes(packed_bytes(buffer));
    void* data = nullptr;
    require(api_.LiteRtLockTensorBuffer(buffer, &data, kLockRead), Stage::kRun, "read an output");
    std::memcpy(bytes.data(), data, bytes.size());
    require(api_.LiteRtUnlockTensorBuffer(buffer), Stage::kRun, "release an output");
    return bytes;
  }

  std::string accelerator() const override {
    if (job_.gpu) return "GPU";  // compile() refuses anything less
    bool whole = false;
    require(api_.LiteRtCompiledModelIsFullyAccelerated(compiled_, &whole), Stage::kRun,
            "tell what ran");
    return whole ? "XNNPACK" : "XNNPACK + CPU kernels";
  }

 private:
  void compile() {
    Handle options = nullptr;
    require(api_.LiteRtCreateOptions(&options), Stage::kLoad, "make options");
    const int accelerator = job_.gpu ? kAcceleratorGpu : kAcceleratorCpu;
    require(api_.LiteRtSetOptionsHardwareAccelerators(options, accelerator), Stage::kLoad,
            "set the accelerator");
    if (job_.threads || job_.xnnpack_flags) add_cpu_options(options);
    const Status status =
        api_.LiteRtCreateCompiledModel(environment_, model_, options, &compiled_);
    api_.LiteRtDestroyOptions(options);
    require(status, Stage::kLoad, "compile the model");
    bool whole = true;
    if (job_.gpu) {
      require(api_.LiteRtCompiledModelIsNonCpuFullyAccelerated(compiled_, &whole), Stage::kLoad,
              "tell what the GPU took");
    }
    if (!whole) {
      throw JobFailure(Stage::kLoad, "job.accelerator: got gpu, which this system has not or which "
                                     "does not take every operator; needed cpu");
    }
  }

  // The CPU accelerator reads its options as TOML under this name (litert_cpu_options.cc).
  void add_cpu_options(Handle options) {
    std::string toml;
    if (job_.threads) toml += "num_threads = " + std::to_string(*job_.threads) + "\n";
    if (job_.xnnpack_flags) toml += "flags = " + std::to_string(*job_.xnnpack_flags) + "\n";
    Handle cpu = nullptr;
    require(api_.LiteRtCreateOpaqueOptions("xnnpack", strdup(toml.c_str()), std::free, &cpu),
            Stage::kLoad, "make CPU options");
    require(api_.LiteRtAddOpaqueOptions(options, cpu), Stage::kLoad, "set CPU options");
  }

  void bind_signature() {
    size_t signatures = 0;
    require(api_.LiteRtGetNumModelSignatures(model_, &signatures), Stage::kLoad, "count signatures");
    if (signatures != 1) {
      throw JobFailure(Stage::kLoad, "model: got " + std::to_string(signatures) +
                                         " signatures, needed 1");
    }
    Handle signature = nullptr;
    require(api_.LiteRtGetModelSignature(model_, kSignature, &signature), Stage::kLoad,
            "read the signature");
    bind(signature, "input", job_.inputs, api_.LiteRtGetNumSignatureInputs,
         api_.LiteRtGetSignatureInputName, api_.LiteRtGetSignatureInputTensorByIndex,
         api_.LiteRtGetCompiledModelInputBufferRequirements, inputs_, slots_in_);
    bind(signature, "output", job_.outputs, api_.LiteRtGetNumSignatureOutputs,
         api_.LiteRtGetSignatureOutputName, api_.LiteRtGetSignatureOutputTensorByIndex,
         api_.LiteRtGetCompiledModelOutputBufferRequirements, outputs_, slots_out_);
  }

  // Makes a buffer per tensor of the signature; `slots[i]` is where the job's tensor i lies.
  template <class Count, class Name, class Get, class Requirements>
  void bind(Handle signature, const char* role, const std::vector<Tensor>& asked, Count count,
            Name name, Get get, Requirements requirements, std::vector<Handle>& buffers,
            std::vector<size_t>& slots) {
    size_t has = 0;
    require(count(signature, &has), Stage::kLoad, "count tensors");
    if (has != asked.size()) {
      throw JobFailure(Stage::kLoad, "job." + std::string(role) + "s: got " +
                                         std::to_string(asked.size()) + ", needed the model's " +
                                         std::to_string(has));
    }
    std::vector<std::string> names;
    for (size_t i = 0; i < has; ++i) {
      const char* text = nullptr;
      require(name(signature, i, &text), Stage::kLoad, "name a tensor");
      names.emplace_back(text);
    }
    buffers.assign(has, nullptr);
    for (const Tensor& one : asked) {
      const size_t slot = index_of(role, one, names);
      buffers[slot] = buffer_of(signature, role, one, slot, get, requirements);
      slots.push_back(slot);
    }
  }

  template <class Get, class Requirements>
  Handle buffer_of(Handle signature, const char* role, const Tensor& asked, size_t slot, Get get,
                   Requirements requirements) {
    Handle tensor = nullptr, needs = nullptr, buffer = nullptr;
    TensorType type{};
    require(get(signature, slot, &tensor), Stage::kLoad, "find a tensor");
    require(api_.LiteRtGetRankedTensorType(tensor, &type), Stage::kLoad, "tell a tensor's type");
    const size_t rank = type.rank <= 8 ? type.rank : 8;
    require_same(role, asked, {type.dimensions, type.dimensions + rank}, dtype_of(type.element));
    require(requirements(compiled_, kSignature, slot, &needs), Stage::kLoad, "size a buffer");
    require(api_.LiteRtCreateManagedTensorBufferFromRequirements(environment_, &type, needs,
                                                                 &buffer),
            Stage::kLoad, "make a buffer");
    if (packed_bytes(buffer) == asked.bytes()) return buffer;
    throw JobFailure(Stage::kLoad, std::string(role) + " '" + asked.name + "': got a buffer of " +
                                       std::to_string(packed_bytes(buffer)) + " bytes, needed " +
                                       std::to_string(asked.bytes()));
  }

  size_t packed_bytes(Handle buffer) const {
    size_t bytes = 0;
    require(api_.LiteRtGetTensorBufferPackedSize(buffer, &bytes), Stage::kLoad, "size a buffer");
    return bytes;
  }

  void write(Handle buffer, const Bytes& bytes) {
    void* data = nullptr;
    require(api_.LiteRtLockTensorBuffer(buffer, &data, kLockWrite), Stage::kLoad, "fill an input");
    std::memcpy(data, bytes.data(), bytes.size());
    require(api_.LiteRtUnlockTensorBuffer(buffer), Stage::kLoad, "release an input");
  }

  const Api& api_;
  const Handle environment_;
  const Job& job_;
  Handle model_ = nullptr;
  Handle compiled_ = nullptr;
  std::vector<Handle> inputs_, outputs_;
  std::vector<size_t> slots_in_, slots_out_;
};

std::unique_ptr<Engine> load(const std::string& path, const Job& job,
                             const std::vector<Bytes>& inputs) {
  // Once a process; the library itself is part of the first load, as in an app.
  static const Api api;
  static const Handle environment = [] {
    Handle made = nullptr;
    require(api.LiteRtCreateEnvironment(0, nullptr, &made), Stage::kLoad, "start");
    return made;
  }();
  return std::make_unique<LiteRtEngine>(api, environment, path, job, inputs);
}

}  // namespace
}  // namespace dfnet::litert

int main(int argc, char** argv) {
  return dfnet::run(argc, argv, {"litert_runner", "litert", DFNET_SDK}, dfnet::litert::load);
}
