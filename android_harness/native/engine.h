// What a runtime gives to the loop that runs a job.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "job.h"

namespace dfnet {

using Bytes = std::vector<unsigned char>;

// One loaded model with its inputs in place.
class Engine {
 public:
  virtual ~Engine() = default;

  // One inference, outputs in memory. Throws JobFailure at Stage::kRun.
  virtual void infer() = 0;

  // Copies output `index`, in the job's order, after an inference.
  virtual Bytes output(size_t index) = 0;

  // What runs: names of PROTOCOL.md, joined by " + ".
  virtual std::string accelerator() const = 0;
};

// Loads the job's model from `path` and checks its tensors against the job's. `inputs` holds their
// bytes, in the job's order, and outlives the engine. Throws JobFailure at Stage::kLoad.
using Loader = std::function<std::unique_ptr<Engine>(const std::string& path, const Job& job,
                                                     const std::vector<Bytes>& inputs)>;

struct RunnerBuild {
  std::string name;
  std::string runtime;
  std::string sdk;
};

// main() of every runner; returns its exit code.
int run(int argc, char** argv, const RunnerBuild& build, const Loader& load);

}  // namespace dfnet
