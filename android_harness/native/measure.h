// The loop on the device: load, first inference, warm-ups, samples, each kept apart.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine.h"

namespace dfnet {

// Nanoseconds of a monotonic clock.
struct Repeat {
  int64_t load_ns = 0;
  int64_t first_ns = 0;
  std::vector<int64_t> warmup_ns;
  std::vector<int64_t> samples_ns;
  std::vector<int64_t> starts_ns;  // since the first sample began
};

// One repeat of a job; `engine` receives what was loaded. `loaded` is called between load and run.
Repeat measure(const Job& job, const std::function<std::unique_ptr<Engine>()>& load,
               const std::function<void()>& loaded, std::unique_ptr<Engine>& engine);

}  // namespace dfnet
