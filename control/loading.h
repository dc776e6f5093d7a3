// A configuration that is being loaded, by a thread that may hang in one of its files.
//
// Thread contract: Run is the thread's, once; `loaded` is its too until Run has returned. progress
// may be called meanwhile, from anywhere.
#ifndef GUIDEWAY_CONTROL_LOADING_H_
#define GUIDEWAY_CONTROL_LOADING_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "control/config/files.h"
#include "control/source.h"

namespace guideway {

class Loading {
 public:
  // What there is to be loaded, one of three.
  struct What {
    std::shared_ptr<const ConfigSource> kept;  // what was loaded once; reads no file
    std::optional<std::string> text;           // of the file `name`; relative paths as in `home`
    std::string name;                          // or the file itself
    std::string home;
  };

  // `refused`: if not OK, no file is read, and this is said of each instead.
  Loading(What what, absl::Status refused);

  void Run();

  // Where it is. Two equal ones that read: it has been in the same file all the time.
  struct Progress {
    uint64_t step = 0;
    bool reads = true;  // true before it has begun
    std::string file;   // that is read
    bool operator==(const Progress& other) const { return step == other.step; }
  };
  Progress progress() const;

  absl::StatusOr<LoadedSource> loaded = absl::UnknownError("");

 private:
  absl::StatusOr<std::string> Read(const std::string& path, const FileReader& read);
  void Advance(bool reads, const std::string& file);

  What what_;
  const absl::Status refused_;
  mutable std::mutex mutex_;
  Progress progress_;  // guarded by mutex_
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_LOADING_H_
