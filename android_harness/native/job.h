// job.json: what a runner is asked to do. PROTOCOL.md explains every field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace dfnet {

inline constexpr int kProtocol = 1;

enum class Stage : int { kJob, kModel, kInputs, kLoad, kRun, kOutputs };
const char* name_of(Stage stage);

// What becomes `error` in result.json: one sentence, "got X, needed Y".
class JobFailure : public std::runtime_error {
 public:
  JobFailure(Stage stage, const std::string& message)
      : std::runtime_error(message), stage(stage) {}
  const Stage stage;
};

struct Tensor {
  std::string name;
  std::string file;
  std::vector<int64_t> shape;
  std::string dtype;
  std::string sha256;  // of an output: known once it is written

  size_t bytes() const;  // of the dense values, in C order
};

enum class Mode { kParity, kBurst, kSustained, kMemory };

struct Job {
  std::string runtime;
  std::string artifact_file;
  std::string artifact_sha256;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
  std::string mode_name;
  Mode mode = Mode::kParity;
  int repeats = 1;
  int warmups = 0;
  int runs = 0;
  double seconds = 0;
  std::optional<int> threads;
  std::optional<std::vector<int>> cpus;
  bool gpu = false;
  std::optional<int> xnnpack_flags;
};

// Reads and checks FOLDER/job.json. Throws JobFailure, which names the first field that is wrong.
Job read_job(const std::string& folder, const std::string& runtime);

// "[1, 3, 64, 64] float32", for messages.
std::string shown(const std::vector<int64_t>& shape, const std::string& dtype);

// Throws JobFailure at Stage::kLoad unless the model's tensor is the job's.
void require_same(const char* role, const Tensor& asked, const std::vector<int64_t>& shape,
                  const std::string& dtype);

}  // namespace dfnet
