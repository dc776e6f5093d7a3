// The history: every revision that was in force, on disk, so that nothing that was put in force is
// lost by a crash, a restart, or a file that is broken or has changed since.
//
// A revision is a configuration (its text and the contents of the files that it names) and the
// overrides by hand. In a directory of its own for each configuration file that a daemon is started
// with, below the state directory:
//
//   etc-guideway.yaml-1f2e3d4c/     by the file's path, and 8 digits of its digest
//     lock                          held by flock while a daemon uses the directory
//     revisions/12.json             a history::Record, by number
//     texts/9f86d081…               texts and contents of files, by their SHA-256: equal ones are
//                                   there once
//
// What always holds:
//   1. A file appears whole or not at all, and after what it refers to: written under another name,
//      fsync, rename, fsync of the directory. Directories have mode 0700, files 0600: keys are
//      among the contents.
//   2. What is read is checked: names, sizes, digests. What is not right is left out, and
//   warnings()
//      names it. Nothing of it keeps a daemon from starting.
//   3. What cannot be written keeps nothing from coming into force. The next revision tries again
//      to write the configuration in force.
//   4. kMaxRevisions are kept (1000), and no text that none of them refers to. The first to go is
//   the
//      oldest with the same configuration as the next, else the oldest.
//   5. Numbers go on over restarts and over revisions that cannot be read.
//
// At the start the disk is read and written here and now, so that what says it has started has kept
// what it started with. Once a loop is attached all of it is done on that loop's helper thread,
// which should be nobody else's: a disk may hang.
//
// Thread contract: one thread, the loop's once attached. A piece of work under way may outlive the
// History; its `done` is then not called.
#ifndef GUIDEWAY_CONTROL_HISTORY_H_
#define GUIDEWAY_CONTROL_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "control/api/api.pb.h"
#include "control/event_loop.h"
#include "control/overrides.h"
#include "control/source.h"

namespace guideway {

class History {
 public:
  static constexpr size_t kMaxRevisions = 1000;

  // Of this process alone: numbers from 1, a list, and no texts.
  History();
  // What is in `state_directory` for the daemon that is started with `config_file`.
  History(const std::string& state_directory, const std::string& config_file,
          size_t max_revisions = kMaxRevisions);
  ~History();

  History(const History&) = delete;
  History& operator=(const History&) = delete;

  // From here on the disk is for the loop's helper thread. The loop must outlive this, or not run
  // any more.
  void Attach(EventLoop* loop);

  // Oldest first. The number of the next one is one more than that of the last, or than that of
  // any that could not be read.
  const std::deque<api::Revision>& revisions() const { return revisions_; }

  uint64_t next_number() const { return last_number_ + 1; }

  // What could not be read at the start or written last, a sentence each.
  std::vector<std::string> warnings() const;

  // Adds a revision and returns its number, which with the time is filled in here. `source`: its
  // configuration; null for the same as of the one before. `is_own`: that is the daemon's own file
  // as it is now. `done` is called, perhaps at once, when it is on disk, or with the reason why
  // not.
  uint64_t Add(api::Revision revision, std::shared_ptr<const ConfigSource> source, bool is_own,
               std::function<void(absl::Status)> done);

  // The configuration of a revision. NotFound names what there is.
  using ReadDone = std::function<void(absl::StatusOr<ConfigSource>)>;
  void Read(uint64_t number, ReadDone done);

  // For ChooseBeginning, before Attach.
  absl::StatusOr<ConfigSource> ReadNow(uint64_t number) const;
  // Revision.digest of the daemon's own file when the revision was put in force.
  std::string OwnDigest(uint64_t number) const;
  void Warn(std::string text) { read_warnings_.push_back(std::move(text)); }

  // The error for a number that is not there.
  absl::Status NoSuchRevision(uint64_t number) const;

 private:
  class Disk;

  std::shared_ptr<Disk> disk_;  // null: none
  EventLoop* loop_ = nullptr;
  const size_t max_revisions_ = kMaxRevisions;
  std::deque<api::Revision> revisions_;
  uint64_t last_number_ = 0;
  std::vector<std::string> read_warnings_;
  std::string write_warning_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// What a daemon starts with.
struct Beginning {
  // With this alone: a configuration out of nowhere, for tests. Its hash seed is yet to be read.
  Beginning(LoadedConfig config) { what.config = std::move(config); }
  explicit Beginning(LoadedSource source) : what(std::move(source)) {}

  LoadedSource what;
  Overrides overrides;
  std::string from = "file";  // as in Status.configuration
  std::string applied_file;   // as in Status
  std::string config_error;   // why the file is not in force
};

// Which configuration to start with:
//
//   the file is valid, and another than when the last revision was put in force    the file
//   the file is valid, and the same                                   the last revision
//   the file is broken or cannot be read                              the last revision
//
// where «the file» includes the files that it names, and «the last revision» is the last one that
// can be read and served. If there is none, it is the file, or its errors. Overrides are in all
// cases those of the last revision.
absl::StatusOr<Beginning> ChooseBeginning(History* history, const std::string& config_file);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_HISTORY_H_
