#include "measure.h"

#include <algorithm>
#include <chrono>

namespace dfnet {
namespace {

int64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

int64_t infer_ns(Engine& engine) {
  const int64_t start = now_ns();
  engine.infer();
  return now_ns() - start;
}

void sample(const Job& job, Engine& engine, Repeat& repeat) {
  const int64_t needed_ns = int64_t(job.seconds * 1e9);
  const size_t runs = size_t(job.runs);
  const int64_t begin = now_ns();
  int64_t spent_ns = 0;
  repeat.samples_ns.reserve(runs);
  repeat.starts_ns.reserve(runs);
  while (repeat.samples_ns.size() < runs || spent_ns < needed_ns) {
    const int64_t start = repeat.samples_ns.empty() ? begin : now_ns();
    const int64_t took = infer_ns(engine);
    repeat.starts_ns.push_back(start - begin);
    repeat.samples_ns.push_back(took);
    // Burst counts inference alone; sustained counts what has passed, as its samples show it.
    spent_ns = job.mode == Mode::kBurst ? spent_ns + took : start - begin + took;
  }
}

}  // namespace

Repeat measure(const Job& job, const std::function<std::unique_ptr<Engine>()>& load,
               const std::function<void()>& loaded, std::unique_ptr<Engine>& engine) {
  Repeat repeat;
  engine.reset();  // a repeat loads anew; two models in memory would disturb each other
  const int64_t start = now_ns();
  engine = load();
  repeat.load_ns = now_ns() - start;
  loaded();
  repeat.first_ns = infer_ns(*engine);
  for (int i = 0; i < job.warmups; ++i) repeat.warmup_ns.push_back(infer_ns(*engine));
  if (job.runs > 0) sample(job, *engine, repeat);
  return repeat;
}

}  // namespace dfnet
