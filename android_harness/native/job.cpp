#include "job.h"

#include <cctype>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

namespace dfnet {
namespace {

using Json = nlohmann::json;

const std::map<std::string, size_t> kItemBytes = {{"float32", 4}, {"float16", 2}, {"int8", 1},
                                                  {"uint8", 1},   {"int16", 2},   {"int32", 4}};
const std::map<std::string, Mode> kModes = {{"parity", Mode::kParity},
                                            {"burst", Mode::kBurst},
                                            {"sustained", Mode::kSustained},
                                            {"memory", Mode::kMemory}};

[[noreturn]] void refuse(const std::string& what) { throw JobFailure(Stage::kJob, what); }

void require(bool holds, const std::string& field, const Json& got, const std::string& needed) {
  if (holds) return;
  // Bytes that are no UTF-8 would make dump() throw; they are shown as replacement characters.
  std::string text = got.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 80) + "...";
  refuse(field + ": got " + text + ", needed " + needed);
}

// An object of the job: every field is asked for once, and whatever is left is unknown.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    require(object.is_object(), where_, object, "an object");
  }

  std::string path(const std::string& name) const { return where_ + "." + name; }

  const Json& value(const std::string& name) {
    known_.insert(name);
    const auto found = object_.find(name);
    if (found == object_.end()) refuse(path(name) + ": got nothing, needed it");
    return *found;
  }

  bool given(const std::string& name) {
    known_.insert(name);
    const auto found = object_.find(name);
    return found != object_.end() && !found->is_null();
  }

  std::string text(const std::string& name) {
    const Json& got = value(name);
    require(got.is_string() && !got.get_ref<const std::string&>().empty(), path(name), got, "text");
    return got.get<std::string>();
  }

  int integer(const std::string& name, int low, int high) {
    return integer_of(value(name), path(name), low, high);
  }

  static int integer_of(const Json& got, const std::string& where, int low, int high) {
    const std::string range = std::to_string(low) + " to " + std::to_string(high);
    const bool whole = got.is_number_integer() &&
                       (!got.is_number_unsigned() ||
                        got.get<uint64_t>() <= uint64_t(std::numeric_limits<int64_t>::max()));
    require(whole, where, got, "a whole number of " + range);
    const int64_t number = got.get<int64_t>();
    require(number >= low && number <= high, where, got, range);
    return int(number);
  }

  double number(const std::string& name, double low, double high) {
    const Json& got = value(name);
    require(got.is_number(), path(name), got, "a number");
    const double found = got.get<double>();
    require(std::isfinite(found) && found >= low && found <= high, path(name), got,
            std::to_string(int64_t(low)) + " to " + std::to_string(int64_t(high)));
    return found;
  }

  std::string file(const std::string& name) {
    const std::string got = text(name);
    bool plain = got.size() <= 100 && got[0] != '.' && got[0] != '-';
    for (const unsigned char c : got) {
      plain = plain && c < 128 && (std::isalnum(c) || c == '.' || c == '_' || c == '-');
    }
    require(plain, path(name), value(name),
            "1 to 100 letters, digits, '.', '_' or '-', the first a letter, a digit or '_'");
    return got;
  }

  std::string sha256(const std::string& name) {
    const std::string got = text(name);
    require(got.size() == 64 && got.find_first_not_of("0123456789abcdef") == std::string::npos,
            path(name), value(name), "64 lowercase hexadecimal digits");
    return got;
  }

  template <class Map>
  std::string choice(const std::string& name, const Map& choices) {
    const std::string got = text(name);
    std::string listed;
    for (const auto& [key, _] : choices) listed += (listed.empty() ? "" : ", ") + key;
    require(choices.count(got) > 0, path(name), value(name), "one of " + listed);
    return got;
  }

  void done() const {
    for (const auto& [name, _] : object_.items()) {
      if (!known_.count(name)) refuse(where_ + ": got the unknown field '" + name + "'");
    }
  }

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string> known_;
};

std::vector<int64_t> read_shape(const Json& got, const std::string& where) {
  require(got.is_array() && !got.empty() && got.size() <= 8, where, got, "1 to 8 dimensions");
  std::vector<int64_t> shape;
  double values = 1;
  for (const Json& one : got) {
    shape.push_back(Fields::integer_of(one, where, 1, std::numeric_limits<int>::max()));
    values *= double(shape.back());
  }
  require(values < double(1ull << 31), where, got, "fewer than 2^31 values");
  return shape;
}

std::vector<Tensor> read_tensors(Fields& job, const std::string& list, bool hashed) {
  const Json& got = job.value(list);
  require(got.is_array() && !got.empty(), job.path(list), got, "a list of at least one");
  std::vector<Tensor> tensors;
  std::set<std::string> names;
  for (const Json& one : got) {
    Fields fields(one, job.path(list) + "[" + std::to_string(tensors.size()) + "]");
    Tensor tensor;
    tensor.name = fields.text("name");
    tensor.file = fields.file("file");
    tensor.shape = read_shape(fields.value("shape"), fields.path("shape"));
    tensor.dtype = fields.choice("dtype", kItemBytes);
    if (hashed) tensor.sha256 = fields.sha256("sha256");
    fields.done();
    if (!names.insert(tensor.name).second) {
      refuse(fields.path("name") + ": got '" + tensor.name + "' twice, needed different names");
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

void read_cpus(Fields& fields, Job& job) {
  if (!fields.given("cpus")) return;
  const Json& got = fields.value("cpus");
  require(got.is_array() && !got.empty(), "job.cpus", got, "a list of at least one core");
  std::vector<int> cpus;
  for (const Json& one : got) cpus.push_back(Fields::integer_of(one, "job.cpus", 0, 1023));
  require(std::set<int>(cpus.begin(), cpus.end()).size() == cpus.size(), "job.cpus", got,
          "different cores");
  job.cpus = std::move(cpus);
}

void check_files(const Job& job) {
  std::set<std::string> taken = {"job.json", "result.json", "job.json.part", "result.json.part"};
  const auto take = [&taken](const std::string& file) {
    if (!taken.insert(file).second) {
      refuse("job: got the file '" + file + "' twice, needed different files");
    }
  };
  take(job.artifact_file);
  for (const Tensor& one : job.inputs) take(one.file);
  for (const Tensor& one : job.outputs) take(one.file);
}

void check_mode(const Job& job) {
  const std::string where = "job: got mode " + job.mode_name;
  if (job.mode == Mode::kParity || job.mode == Mode::kMemory) {
    if (job.repeats != 1 || job.warmups || job.runs || job.seconds > 0) {
      refuse(where + " with several repeats, warm-ups, runs or seconds, needed none");
    }
    return;
  }
  if (job.runs < 1) refuse(where + " with 0 runs, needed at least 1");
  if (job.mode == Mode::kSustained && !(job.seconds > 0)) {
    refuse(where + " with 0 seconds, needed more");
  }
}

// nlohmann keeps the last of two equal keys; the protocol refuses them.
Json parse(std::istream& stream) {
  std::vector<std::set<std::string>> open;
  const auto watch = [&open](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second) {
      refuse("job.json: got the field '" + parsed.get<std::string>() + "' twice in one object");
    }
    return true;
  };
  try {
    return Json::parse(stream, watch);
  } catch (const Json::exception& error) {
    refuse(std::string("job.json: got ") + error.what() + ", needed JSON");
  }
}

}  // namespace

const char* name_of(Stage stage) {
  static const char* const names[] = {"job", "model", "inputs", "load", "run", "outputs"};
  return names[static_cast<int>(stage)];
}

size_t Tensor::bytes() const {
  size_t bytes = kItemBytes.at(dtype);
  for (const int64_t size : shape) bytes *= size_t(size);
  return bytes;
}

Job read_job(const std::string& folder, const std::string& runtime) {
  std::ifstream stream(folder + "/job.json", std::ios::binary);
  if (!stream) refuse("job.json: got no such file in " + folder + ", needed it");
  const Json json = parse(stream);
  Fields fields(json, "job");
  fields.integer("protocol", kProtocol, kProtocol);
  Job job;
  job.runtime = fields.text("runtime");
  require(job.runtime == runtime, "job.runtime", fields.value("runtime"), "'" + runtime + "'");
  job.artifact_file = fields.file("artifact_file");
  job.artifact_sha256 = fields.sha256("artifact_sha256");
  job.inputs = read_tensors(fields, "inputs", true);
  job.outputs = read_tensors(fields, "outputs", false);
  job.mode_name = fields.choice("mode", kModes);
  job.mode = kModes.at(job.mode_name);
  job.repeats = fields.integer("repeats", 1, 1000);
  job.warmups = fields.integer("warmups", 0, 100'000);
  job.runs = fields.integer("runs", 0, 1'000'000);
  job.seconds = fields.number("seconds", 0, 86'400);
  if (fields.given("threads")) job.threads = fields.integer("threads", 1, 256);
  read_cpus(fields, job);
  const std::map<std::string, bool> accelerators = {{"cpu", false}, {"gpu", true}};
  job.gpu = accelerators.at(fields.choice("accelerator", accelerators));
  if (fields.given("xnnpack_flags")) {
    job.xnnpack_flags = fields.integer("xnnpack_flags", 0, std::numeric_limits<int>::max());
  }
  fields.done();
  check_files(job);
  check_mode(job);
  return job;
}

std::string shown(const std::vector<int64_t>& shape, const std::string& dtype) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "] " + dtype;
}

void require_same(const char* role, const Tensor& asked, const std::vector<int64_t>& shape,
                  const std::string& dtype) {
  if (asked.shape == shape && asked.dtype == dtype) return;
  throw JobFailure(Stage::kLoad, std::string(role) + " '" + asked.name + "': got " +
                                     shown(asked.shape, asked.dtype) + " in the job, needed " +
                                     shown(shape, dtype) + " as in the model");
}

}  // namespace dfnet
