// result.json: what a runner answers. PROTOCOL.md explains every field.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine.h"
#include "measure.h"

namespace dfnet {

struct Outcome {
  Job job;  // its outputs carry their hashes
  std::vector<int> cpus;
  std::string accelerator;
  std::vector<Repeat> repeats;
  std::optional<double> peak_memory_mb;
};

std::vector<int> usable_cpus();
double peak_memory_mb();  // of this process, in 10^6 bytes

std::string success_json(const RunnerBuild& build, const Outcome& outcome);
std::string failure_json(const RunnerBuild& build, Stage stage, const std::string& message);

}  // namespace dfnet
