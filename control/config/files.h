// Reading files: the configuration itself, and those that it names (lists of prefixes, keys, the
// hash seed).
//
// The one place in control/config that touches the file system. Safe from any thread; every call
// opens, reads and closes.
#ifndef GUIDEWAY_CONTROL_CONFIG_FILES_H_
#define GUIDEWAY_CONTROL_CONFIG_FILES_H_

#include <cstddef>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace guideway {

// Files are refused above this size, in bytes.
inline constexpr size_t kMaxConfigBytes = size_t{64} << 20;

// From a path to what the file holds, or a status that says in a few words why it cannot be had.
using FileReader = std::function<absl::StatusOr<std::string>(const std::string& path)>;

// The FileReader for files that a configuration names: only regular files of at most
// kMaxConfigBytes, so that no pipe or device can hold up who reads, without end or for want of a
// writer.
absl::StatusOr<std::string> ReadNamedFile(const std::string& path);

// The text at `path`: a file, a pipe or a device. InvalidArgument when it is over kMaxConfigBytes;
// NotFound, PermissionDenied or FailedPrecondition with one sentence when it cannot be read.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path);

// `path` as written in the file at `config_file`: a relative one starts at its directory.
std::string ResolvePath(absl::string_view config_file, absl::string_view path);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_FILES_H_
