// main() of the runners: reads the job, runs it in a child process, writes result.json.
//
// A corrupted model can make a runtime abort or crash. The child takes that blow, so that the parent
// can still say at which stage it fell.

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "engine.h"
#include "files.h"
#include "measure.h"
#include "result.h"

namespace dfnet {
namespace {

constexpr int kDone = 0, kFailed = 1, kUnwritten = 2;

// Shared with the child, so that the parent knows where it was when it died.
volatile Stage* reached = nullptr;

void use_cpus(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) == 0 && usable_cpus().size() == cpus.size()) return;
  throw JobFailure(Stage::kJob, "job.cpus: got a core this process may not use, needed some of " +
                                    std::to_string(usable_cpus().size()) + " cores");
}

Outcome run_job(const std::string& folder, const RunnerBuild& build, const Loader& load) {
  Outcome outcome;
  outcome.job = read_job(folder, build.runtime);
  Job& job = outcome.job;
  for (const Tensor& output : job.outputs) std::remove((folder + "/" + output.file).c_str());
  if (job.cpus) use_cpus(*job.cpus);
  outcome.cpus = usable_cpus();

  *reached = Stage::kModel;
  const std::string path = folder + "/" + job.artifact_file;
  require_model(path, job.artifact_sha256);
  *reached = Stage::kInputs;
  std::vector<Bytes> inputs;
  for (const Tensor& input : job.inputs) inputs.push_back(read_input(folder, input));

  std::unique_ptr<Engine> engine;
  for (int i = 0; i < job.repeats; ++i) {
    *reached = Stage::kLoad;
    outcome.repeats.push_back(measure(
        job, [&] { return load(path, job, inputs); }, [] { *reached = Stage::kRun; }, engine));
  }
  outcome.accelerator = engine->accelerator();
  if (job.mode == Mode::kMemory) outcome.peak_memory_mb = peak_memory_mb();
  *reached = Stage::kOutputs;
  for (size_t i = 0; i < job.outputs.size(); ++i) {
    job.outputs[i].sha256 = write_output(folder, job.outputs[i], engine->output(i));
  }
  return outcome;
}

// After a failure no output may be taken for a result. The job is read again: the child's is gone.
void remove_outputs(const std::string& folder, const RunnerBuild& build) {
  try {
    for (const Tensor& output : read_job(folder, build.runtime).outputs) {
      std::remove((folder + "/" + output.file).c_str());
    }
  } catch (const JobFailure&) {
    // A job that cannot be read named no output either.
  }
}

int finish(const std::string& folder, const std::string& result, int code) {
  if (write_whole(folder + "/result.json", result)) return code;
  std::fprintf(stderr, "%s/result.json: cannot be written (%s)\n", folder.c_str(),
               std::strerror(errno));
  return kUnwritten;
}

int fail(const std::string& folder, const RunnerBuild& build, Stage stage,
         const std::string& message) {
  remove_outputs(folder, build);
  std::fprintf(stderr, "%s: %s\n", name_of(stage), message.c_str());
  return finish(folder, failure_json(build, stage, message), kFailed);
}

int child(const std::string& folder, const RunnerBuild& build, const Loader& load) {
  // Whoever kills the parent means the work, too.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  try {
    const int code = finish(folder, success_json(build, run_job(folder, build, load)), kDone);
    if (code == kUnwritten) remove_outputs(folder, build);
    return code;
  } catch (const JobFailure& failure) {
    return fail(folder, build, failure.stage, failure.what());
  } catch (const std::bad_alloc&) {
    return fail(folder, build, *reached, "got too little memory, needed more for this model");
  }
}

}  // namespace

int run(int argc, char** argv, const RunnerBuild& build, const Loader& load) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER   (reads FOLDER/job.json)\n", argv[0]);
    return kUnwritten;
  }
  const std::string folder = argv[1];
  std::remove((folder + "/result.json").c_str());
  void* const shared = mmap(nullptr, sizeof(Stage), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return fail(folder, build, Stage::kJob, "cannot map memory");
  reached = new (shared) Stage(Stage::kJob);
  const pid_t pid = fork();
  if (pid == 0) {
    const int code = child(folder, build, load);
    std::fflush(nullptr);
    _exit(code);  // the runtimes' own destructors have nothing left to save
  }
  if (pid < 0) return fail(folder, build, Stage::kJob, "cannot start a process");
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) {
    const int code = WEXITSTATUS(status);
    if (code == kDone || code == kFailed || code == kUnwritten) return code;
    return fail(folder, build, *reached,
                "the runtime ended the process with code " + std::to_string(code));
  }
  const int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return fail(folder, build, *reached,
              "the process died of signal " + std::to_string(number) + " (" + strsignal(number) +
                  ")");
}

}  // namespace dfnet
