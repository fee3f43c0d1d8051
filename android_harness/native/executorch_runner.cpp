// Runs a .pte file with ExecuTorch, as PROTOCOL.md says.

#include <cstdint>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/core/exec_aten/util/scalar_type_util.h>
#include <executorch/runtime/platform/runtime.h>

#include "engine.h"

#ifndef DFNET_SDK
#error "Name the ExecuTorch that is linked: -DDFNET_SDK='\"executorch 1.5.1\"'"
#endif

// libexecutorch_threadpool.so exports this class, but the wheel has no header of it; these are the
// declarations of extension/threadpool/threadpool.h that are called here.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace {

using dfnet::Bytes;
using dfnet::Job;
using dfnet::JobFailure;
using dfnet::Stage;
using executorch::aten::ScalarType;
using executorch::extension::Module;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::MethodMeta;
using executorch::runtime::TensorInfo;

constexpr const char* kMethod = "forward";

[[noreturn]] void refuse(Stage stage, const std::string& what, Error error) {
  throw JobFailure(stage, what + " (" + executorch::runtime::to_string(error) + ")");
}

std::string dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Half: return "float16";
    case ScalarType::Char: return "int8";
    case ScalarType::Byte: return "uint8";
    case ScalarType::Short: return "int16";
    case ScalarType::Int: return "int32";
    default: return std::string("unsupported ") + executorch::runtime::toString(type);
  }
}

// The pool is the process's own and must have its size before a method is loaded.
void use_threads(int threads) {
  auto* const pool = executorch::extension::threadpool::get_threadpool();
  if (!pool) throw JobFailure(Stage::kLoad, "threads: ExecuTorch has no thread pool here");
  if (pool->get_thread_count() != size_t(threads)) pool->_unsafe_reset_threadpool(threads);
  if (pool->get_thread_count() == size_t(threads)) return;
  throw JobFailure(Stage::kLoad, "threads: got " + std::to_string(pool->get_thread_count()) +
                                     ", needed " + std::to_string(threads));
}

void check(const char* role, const dfnet::Tensor& asked, const TensorInfo& info) {
  const std::vector<int64_t> shape(info.sizes().begin(), info.sizes().end());
  dfnet::require_same(role, asked, shape, dtype_of(info.scalar_type()));
  for (size_t i = 0; i < info.dim_order().size(); ++i) {
    // Contiguous values would silently be read in another order.
    if (info.dim_order()[i] == i) continue;
    throw JobFailure(Stage::kLoad, std::string(role) + " '" + asked.name +
                                       "': got channels-last memory, needed contiguous");
  }
}

void check_count(const char* role, size_t asked, size_t has) {
  if (asked == has) return;
  throw JobFailure(Stage::kLoad, "job." + std::string(role) + ": got " + std::to_string(asked) +
                                     ", needed the model's " + std::to_string(has));
}

class ExecuTorchEngine : public dfnet::Engine {
 public:
  ExecuTorchEngine(const std::string& path, const Job& job, const std::vector<Bytes>& inputs)
      : job_(job), module_(path, Module::LoadMode::File) {
    // A file that was cut or altered before it was hashed is found here rather than in a crash.
    const Error loaded =
        module_.load(executorch::runtime::Program::Verification::InternalConsistency);
    if (loaded != Error::Ok) refuse(Stage::kLoad, "ExecuTorch cannot load the model", loaded);
    const auto meta = module_.method_meta(kMethod);
    if (!meta.ok()) refuse(Stage::kLoad, "the model has no method 'forward'", meta.error());
    check_tensors(*meta);
    const Error ready = module_.load_method(kMethod);
    if (ready != Error::Ok) refuse(Stage::kLoad, "ExecuTorch cannot prepare the model", ready);
    for (size_t i = 0; i < inputs.size(); ++i) take_input(*meta, i, inputs[i]);
    delegated_ = meta->uses_backend("XnnpackBackend");
  }

  void infer() override {
    auto result = module_.forward(feed_);
    if (!result.ok()) refuse(Stage::kRun, "ExecuTorch cannot run the model", result.error());
    results_ = std::move(*result);
  }

  Bytes output(size_t index) override {
    if (results_.size() != job_.outputs.size() || !results_[index].isTensor()) {
      throw JobFailure(Stage::kRun, "got other outputs than the model declares");
    }
    const auto tensor = results_[index].toTensor();
    const std::vector<int64_t> shape(tensor.sizes().begin(), tensor.sizes().end());
    dfnet::require_same("output", job_.outputs[index], shape, dtype_of(tensor.scalar_type()));
    const auto* const data = static_cast<const unsigned char*>(tensor.const_data_ptr());
    return Bytes(data, data + tensor.nbytes());
  }

  std::string accelerator() const override { return delegated_ ? "XNNPACK" : "CPU kernels"; }

 private:
  void check_tensors(const MethodMeta& meta) {
    check_count("inputs", job_.inputs.size(), meta.num_inputs());
    check_count("outputs", job_.outputs.size(), meta.num_outputs());
    for (size_t i = 0; i < meta.num_inputs(); ++i) {
      const auto info = meta.input_tensor_meta(i);
      if (!info.ok()) refuse(Stage::kLoad, "an input is no tensor", info.error());
      check("input", job_.inputs[i], *info);
    }
    for (size_t i = 0; i < meta.num_outputs(); ++i) {
      const auto info = meta.output_tensor_meta(i);
      if (!info.ok()) refuse(Stage::kLoad, "an output is no tensor", info.error());
      check("output", job_.outputs[i], *info);
    }
  }

  void take_input(const MethodMeta& meta, size_t index, const Bytes& bytes) {
    const auto info = meta.input_tensor_meta(index);
    std::vector<executorch::aten::SizesType> sizes(info->sizes().begin(), info->sizes().end());
    // from_blob wants a writable pointer; ExecuTorch copies inputs into its own memory.
    auto* const data = const_cast<unsigned char*>(bytes.data());
    tensors_.push_back(executorch::extension::from_blob(data, sizes, info->scalar_type()));
    feed_.emplace_back(tensors_.back());
  }

  const Job& job_;
  Module module_;
  std::vector<executorch::extension::TensorPtr> tensors_;
  std::vector<EValue> feed_;
  std::vector<EValue> results_;
  bool delegated_ = false;
};

std::unique_ptr<dfnet::Engine> load(const std::string& path, const Job& job,
                                    const std::vector<Bytes>& inputs) {
  if (job.gpu) throw JobFailure(Stage::kJob, "job.accelerator: got gpu, needed cpu for ExecuTorch");
  if (job.xnnpack_flags) {
    throw JobFailure(Stage::kJob, "job.xnnpack_flags: got a number, needed null for ExecuTorch");
  }
  if (job.threads) use_threads(*job.threads);
  return std::make_unique<ExecuTorchEngine>(path, job, inputs);
}

}  // namespace

int main(int argc, char** argv) {
  executorch::runtime::runtime_init();
  return dfnet::run(argc, argv, {"executorch_runner", "executorch", DFNET_SDK}, load);
}
