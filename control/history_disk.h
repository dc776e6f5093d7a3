// What the history has on disk. In a directory of its own for each configuration file that a daemon
// is started with, below the state directory:
//
//   etc-guideway.yaml-1f2e3d4c/     by the file's path, and 8 digits of its digest
//     lock                          held by flock while a daemon uses the directory
//     revisions/12.json             a history::Record, by number
//     texts/9f86d081…               texts and contents of files, by their SHA-256: equal ones are
//                                   there once
//
// A file appears whole or not at all, and after what it refers to: written under another name,
// fsync, rename, fsync of the directory. Directories have mode 0700, files 0600: keys are among the
// contents. What is read is checked: names, sizes, digests.
//
// Any call may hang. On one thread at a time.
#ifndef GUIDEWAY_CONTROL_HISTORY_DISK_H_
#define GUIDEWAY_CONTROL_HISTORY_DISK_H_

#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "control/api/api.pb.h"
#include "control/history.pb.h"
#include "control/source.h"

namespace guideway {

// Warnings of one kind that are told one by one.
inline constexpr size_t kMaxHistoryWarnings = 10;

// Of revisions, oldest first, the one to forget: the oldest that has the configuration of the next.
// So restarts and drains, however many, push no configuration out.
template <typename Iterator, typename Same>
Iterator FirstToForget(Iterator begin, Iterator end, Same same) {
  const Iterator found = std::adjacent_find(begin, end, same);
  return found == end ? begin : found;
}

class HistoryDisk {
 public:
  // For the daemon that is started with `config_file`.
  HistoryDisk(const std::string& state_directory, std::string config_file, size_t max_revisions);
  ~HistoryDisk();

  HistoryDisk(const HistoryDisk&) = delete;
  HistoryDisk& operator=(const HistoryDisk&) = delete;

  const std::string& directory() const { return directory_; }

  // False if another process has the directory. One that cannot be made is found out when something
  // is to be written there.
  bool Lock();

  // Oldest first. `steps`, if not null, counts how far it has come.
  std::vector<history::Record> ReadRecords(uint64_t* last_number,
                                           std::vector<std::string>* warnings,
                                           std::atomic<uint64_t>* steps);
  absl::StatusOr<history::Record> ReadRecord(uint64_t number) const;
  absl::StatusOr<ConfigSource> ReadSource(uint64_t number) const;
  absl::Status Write(const api::Revision& revision, std::shared_ptr<const ConfigSource> source,
                     bool is_own);
  // The next revision is put in force in spite of the file, so it has this digest, too.
  void KeepOwnDigest(std::string digest) { own_digest_ = std::move(digest); }

 private:
  // The daemon's own file as it was when it was last looked at: which files a text names.
  class OwnFile {
   public:
    OwnFile() = default;
    explicit OwnFile(const ConfigSource& source);
    // What it is now; empty if it could not be put in force.
    std::string Digest(const std::string& path);

   private:
    std::string text_;  // its SHA-256
    std::vector<std::string> paths_;
  };
  struct Kept {
    uint64_t number;
    std::shared_ptr<const std::vector<std::string>> digests;  // equal ones are shared
  };

  std::string PathOf(uint64_t number) const {
    return absl::StrCat(revisions_, "/", number, ".json");
  }
  absl::Status MakeDirectories();
  absl::Status CheckKnown();
  void Keep(const history::Record& record);
  absl::StatusOr<std::string> ReadText(const std::string& digest) const;
  absl::Status WriteTexts(const ConfigSource& source);
  std::string DigestOfOwnFile();
  void RemoveOld();

  const size_t max_revisions_;
  const std::string directory_, revisions_, texts_;
  const std::string config_file_;
  int lock_ = -1;
  // Device and inode of `revisions_` as it was read, or was when nothing was in it.
  std::optional<std::pair<dev_t, ino_t>> known_;
  std::deque<Kept> kept_;
  std::vector<uint64_t> too_old_;  // found at the start
  bool all_was_readable_ = true;
  bool swept_ = false;

  // Of the last revision, and its configuration until its texts are written.
  history::Record last_;
  std::shared_ptr<const ConfigSource> unwritten_;

  std::optional<std::string> own_digest_;  // of the next one, if the file yielded to it

  OwnFile own_file_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_HISTORY_DISK_H_
