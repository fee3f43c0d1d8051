#include "result.h"

#include <sched.h>
#include <sys/resource.h>

#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#elif defined(__ANDROID__)
#include <android/api-level.h>
#endif

#include <nlohmann/json.hpp>

namespace dfnet {
namespace {

// Order as written, for people who open the file.
using Json = nlohmann::ordered_json;

constexpr const char* kVersion = "1";
constexpr double kMsPerNs = 1e-6;

#if defined(__aarch64__)
constexpr const char* kAbi = "arm64-v8a";
#elif defined(__x86_64__)
constexpr const char* kAbi = "x86_64";
#else
#error "The runners are built for arm64-v8a and x86_64."
#endif

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "gcc " __VERSION__;
#endif

std::string libc() {
#if defined(__GLIBC__)
  return std::string("glibc ") + gnu_get_libc_version();
#elif defined(__ANDROID__)
  return "bionic " + std::to_string(android_get_device_api_level());
#else
#error "The runners are built against glibc or bionic."
#endif
}

Json header(const RunnerBuild& build) {
  return {{"protocol", kProtocol},
          {"runner",
           {{"name", build.name},
            {"version", kVersion},
            {"sdk", build.sdk},
            {"compiler", kCompiler},
            {"libc", libc()},
            {"abi", kAbi}}}};
}

Json ms(const std::vector<int64_t>& ns) {
  Json list = Json::array();
  for (const int64_t one : ns) list.push_back(double(one) * kMsPerNs);
  return list;
}

// A message may quote a model's bytes, which need not be UTF-8.
std::string text_of(const Json& json) {
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) cpus.push_back(i);
  }
  return cpus;
}

double peak_memory_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return double(usage.ru_maxrss) * 1024 / 1e6;
}

std::string success_json(const RunnerBuild& build, const Outcome& outcome) {
  const Job& job = outcome.job;
  Json json = header(build);
  json["artifact_sha256"] = job.artifact_sha256;
  json["mode"] = job.mode_name;
  json["threads"] = job.threads ? Json(*job.threads) : Json(nullptr);
  json["cpus"] = outcome.cpus;
  json["accelerator"] = outcome.accelerator;
  json["repeats"] = Json::array();
  for (const Repeat& one : outcome.repeats) {
    json["repeats"].push_back({{"load_ms", double(one.load_ns) * kMsPerNs},
                               {"first_ms", double(one.first_ns) * kMsPerNs},
                               {"warmup_ms", ms(one.warmup_ns)},
                               {"samples_ms", ms(one.samples_ns)},
                               {"starts_ms", ms(one.starts_ns)}});
  }
  json["outputs"] = Json::array();
  for (const Tensor& one : job.outputs) {
    json["outputs"].push_back({{"name", one.name},
                               {"file", one.file},
                               {"shape", one.shape},
                               {"dtype", one.dtype},
                               {"sha256", one.sha256}});
  }
  if (outcome.peak_memory_mb) json["peak_memory_mb"] = *outcome.peak_memory_mb;
  return text_of(json);
}

std::string failure_json(const RunnerBuild& build, Stage stage, const std::string& message) {
  Json json = header(build);
  json["error"] = {{"stage", name_of(stage)}, {"message", message}};
  return text_of(json);
}

}  // namespace dfnet
