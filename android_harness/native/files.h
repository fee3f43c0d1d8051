// Files of a job folder: read whole and verified, written whole or not at all.
#pragma once

#include <string>

#include "engine.h"

namespace dfnet {

// Throws JobFailure at Stage::kModel unless the file is there and has this hash.
void require_model(const std::string& path, const std::string& sha256);

// The bytes of an input. Throws JobFailure at Stage::kInputs unless size and hash are the job's.
Bytes read_input(const std::string& folder, const Tensor& input);

// Writes an output and gives its hash. Throws JobFailure at Stage::kOutputs (no space left).
std::string write_output(const std::string& folder, const Tensor& output, const Bytes& bytes);

// Writes beside `path` and renames. Returns false when that fails.
bool write_whole(const std::string& path, const std::string& text);

}  // namespace dfnet
