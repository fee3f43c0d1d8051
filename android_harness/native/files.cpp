#include "files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "sha256.h"

namespace dfnet {
namespace {

struct Close {
  void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, Close>;

// Gives every block of a file to `take`; false when it cannot be read to its end.
template <class Take>
bool read_blocks(const std::string& path, const Take& take) {
  const File file(std::fopen(path.c_str(), "rb"));
  if (!file) return false;
  static unsigned char block[1 << 16];
  while (const size_t got = std::fread(block, 1, sizeof block, file.get())) take(block, got);
  return !std::ferror(file.get());
}

bool write_bytes(const std::string& path, const void* data, size_t bytes) {
  FILE* const file = std::fopen(path.c_str(), "wb");
  if (!file) return false;
  const bool written = std::fwrite(data, 1, bytes, file) == bytes;
  // A full disk may show only here, when the last block is flushed.
  return std::fclose(file) == 0 && written;
}

std::string reason() { return std::strerror(errno); }

}  // namespace

void require_model(const std::string& path, const std::string& sha256) {
  Sha256 hash;
  errno = 0;
  if (!read_blocks(path, [&](const void* data, size_t bytes) { hash.add(data, bytes); })) {
    throw JobFailure(Stage::kModel, "model " + path + ": cannot be read (" + reason() + ")");
  }
  const std::string got = hash.hex();
  if (got != sha256) {
    throw JobFailure(Stage::kModel, "model " + path + ": got sha256 " + got.substr(0, 12) +
                                        ", needed " + sha256.substr(0, 12));
  }
}

Bytes read_input(const std::string& folder, const Tensor& input) {
  Bytes bytes;
  bytes.reserve(input.bytes());
  Sha256 hash;
  size_t total = 0;
  errno = 0;
  const bool read = read_blocks(folder + "/" + input.file, [&](const unsigned char* data, size_t n) {
    hash.add(data, n);
    total += n;
    if (total <= input.bytes()) bytes.insert(bytes.end(), data, data + n);
  });
  const std::string name = "input '" + input.name + "' (" + input.file + ")";
  if (!read) throw JobFailure(Stage::kInputs, name + ": cannot be read (" + reason() + ")");
  if (total != input.bytes()) {
    throw JobFailure(Stage::kInputs, name + ": got " + std::to_string(total) + " bytes, needed " +
                                         std::to_string(input.bytes()) + " for " +
                                         shown(input.shape, input.dtype));
  }
  const std::string got = hash.hex();
  if (got != input.sha256) {
    throw JobFailure(Stage::kInputs, name + ": got sha256 " + got.substr(0, 12) + ", needed " +
                                         input.sha256.substr(0, 12));
  }
  return bytes;
}

std::string write_output(const std::string& folder, const Tensor& output, const Bytes& bytes) {
  const std::string name = "output '" + output.name + "' (" + output.file + ")";
  if (bytes.size() != output.bytes()) {
    throw JobFailure(Stage::kOutputs, name + ": got " + std::to_string(bytes.size()) +
                                          " bytes, needed " + std::to_string(output.bytes()));
  }
  errno = 0;
  if (!write_bytes(folder + "/" + output.file, bytes.data(), bytes.size())) {
    throw JobFailure(Stage::kOutputs, name + ": cannot be written (" + reason() + ")");
  }
  Sha256 hash;
  hash.add(bytes.data(), bytes.size());
  return hash.hex();
}

bool write_whole(const std::string& path, const std::string& text) {
  const std::string part = path + ".part";
  if (write_bytes(part, text.data(), text.size()) && std::rename(part.c_str(), path.c_str()) == 0) {
    return true;
  }
  std::remove(part.c_str());
  return false;
}

}  // namespace dfnet
