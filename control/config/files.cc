#include "control/config/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

const char* KindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return S_ISREG(mode) ? "a file" : "a device";
}

// Statuses carry the words of errno alone.
absl::Status Failed(int error) {
  return absl::Status(absl::ErrnoToStatusCode(error), std::strerror(error));
}

absl::StatusOr<std::string> Read(const std::string& path, bool only_regular) {
  // Nonblocking: to open a pipe waits for nobody.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file < 0) return Failed(errno);
  const absl::Cleanup close_file = [file] { close(file); };
  struct stat status;
  if (fstat(file, &status) != 0) return Failed(errno);
  if (S_ISDIR(status.st_mode) || (only_regular && !S_ISREG(status.st_mode))) {
    return absl::FailedPreconditionError(absl::StrCat("it is ", KindOf(status.st_mode)));
  }
  if (fcntl(file, F_SETFL, 0) != 0) return Failed(errno);
  // The size is what arrives: a file may grow meanwhile, and a pipe has none.
  std::string text;
  char chunk[65536];
  for (;;) {
    const ssize_t size = read(file, chunk, sizeof(chunk));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Failed(errno);
    if (size == 0) return text;
    text.append(chunk, static_cast<size_t>(size));
    if (text.size() > kMaxConfigBytes) {
      return absl::OutOfRangeError(
          absl::StrCat("it is larger than ", kMaxConfigBytes >> 20, " MiB"));
    }
  }
}

}  // namespace

absl::StatusOr<std::string> ReadNamedFile(const std::string& path) { return Read(path, true); }

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  absl::StatusOr<std::string> text = Read(path, false);
  if (absl::IsOutOfRange(text.status())) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":1:1: the file is larger than ", kMaxConfigBytes >> 20, " MiB"));
  }
  if (text.ok()) return text;
  return absl::Status(text.status().code(), absl::StrCat("cannot read the configuration file ",
                                                         path, ": ", text.status().message()));
}

std::string ResolvePath(absl::string_view config_file, absl::string_view path) {
  const size_t slash = config_file.rfind('/');
  if (absl::StartsWith(path, "/") || slash == absl::string_view::npos) return std::string(path);
  return absl::StrCat(config_file.substr(0, slash + 1), path);
}

}  // namespace guideway
