// The history: every revision that was in force, on disk, so that nothing that was put in force is
// lost by a crash, a restart, or a file that is broken or has changed since.
//
// A revision is a configuration (its text and the contents of the files that it names) and the
// overrides by hand. What always holds:
//   1. What is on disk (control/history_disk.h) is whole, or not there.
//   2. What is read and is not right is left out, and warnings() names it. Nothing of it keeps a
//      daemon from starting.
//   3. What cannot be written keeps nothing from coming into force. The next revision tries again
//      to write the configuration in force.
//   4. kMaxRevisions are kept (1000), and no text that none of them refers to. The first to go is
//      the oldest with the same configuration as the next, else the oldest.
//   5. Numbers go on over restarts and over revisions that cannot be read.
//   6. Nobody waits for the disk longer than kPatience (10 s), nor at all for one that is known not
//      to answer. What was given to it is done when it answers again: kMaxWrites (64) revisions,
//      and of all that came after them the last.
//
// At the start the disk is read here and now, by whoever calls. Once a loop is attached all is done
// on that loop's helper thread, which should be nobody else's: a disk may hang.
//
// Thread contract: one thread at a time, the loop's once attached. A piece of work under way may
// outlive the History; its `done` is then not called.
#ifndef GUIDEWAY_CONTROL_HISTORY_H_
#define GUIDEWAY_CONTROL_HISTORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "control/api/api.pb.h"
#include "control/event_loop.h"
#include "control/overrides.h"
#include "control/source.h"

namespace guideway {

class HistoryDisk;

class History {
 public:
  static constexpr size_t kMaxRevisions = 1000;
  static constexpr absl::Duration kPatience = absl::Seconds(10);
  static constexpr size_t kMaxWrites = 64;

  // Of this process alone: numbers from 1, a list, and no texts. `why`, if not empty: a sentence
  // that is a warning from now on, that nothing is kept.
  explicit History(std::string why = "");
  // What is in `state_directory` for the daemon that is started with `config_file`. May hang;
  // `steps`, if not null, counts how far it has come.
  History(const std::string& state_directory, const std::string& config_file,
          size_t max_revisions = kMaxRevisions, std::atomic<uint64_t>* steps = nullptr);
  ~History();

  History(const History&) = delete;
  History& operator=(const History&) = delete;

  // From here on the disk is for the loop's helper thread. The loop must outlive this.
  void Attach(EventLoop* loop);

  // Oldest first. The number of the next one is one more than that of the last, or than that of
  // any that could not be read.
  const std::deque<api::Revision>& revisions() const { return revisions_; }

  uint64_t next_number() const { return last_number_ + 1; }

  // What could not be read at the start or written last, a sentence each.
  std::vector<std::string> warnings() const;
  // The same for those who look at a running daemon.
  api::HistoryState State() const;
  // Of the last revision of which it is known: on disk, or the reason why not.
  absl::Status kept() const;

  // Adds a revision and returns its number, which with the time is filled in here. Where there is a
  // disk, a loop must be attached. `source`: its configuration; null for the same as of the one
  // before. `is_own`: that is the daemon's own file as it is now. `done` is called, perhaps at
  // once, when it is on disk, or with the reason why not, or not yet.
  uint64_t Add(api::Revision revision, std::shared_ptr<const ConfigSource> source, bool is_own,
               std::function<void(absl::Status)> done);

  // Calls `done`, perhaps at once, when all that was added is on disk or could not be kept, or is
  // waited for no longer, with kept() of that time.
  void AfterWrites(std::function<void(absl::Status)> done);

  // The same while the loop does not run, at the start and the end of the process: waits for it, no
  // longer than `limit`. The error names the revisions that are not on disk, and why;
  // DeadlineExceeded: the disk hangs, and so does the loop's helper thread.
  absl::Status Finish(absl::Duration limit);

  // The configuration of a revision. NotFound names what there is; DeadlineExceeded: the disk does
  // not answer.
  using ReadDone = std::function<void(absl::StatusOr<ConfigSource>)>;
  void Read(uint64_t number, ReadDone done);

  // For ChooseBeginning, before Attach: the last revision that can be read and is valid; a warning
  // tells of those that are passed over. Reads it once; may hang. `steps` as in the constructor.
  struct Last {
    uint64_t number;
    LoadedSource loaded;
    std::string own_digest;  // Revision.digest of the daemon's own file when it was put in force
  };
  const std::optional<Last>& FindLast(std::atomic<uint64_t>* steps = nullptr);
  // For tests, before Attach.
  absl::StatusOr<ConfigSource> ReadNow(uint64_t number) const;
  // The next revision is put in force in spite of the file, so it has this digest, too.
  void KeepOwnDigest(std::string digest);
  void Warn(std::string text) { read_warnings_.push_back(std::move(text)); }

  // The error for a number that is not there; others may be missing in between.
  absl::Status NoSuchRevision(uint64_t number) const;

 private:
  // What has come of the writes; theirs, on whichever thread they are made.
  struct Written {
    std::mutex mutex;
    uint64_t number = 0;  // of the last revision that is on disk
    absl::Status why;     // of the last one that is not
  };
  // Somebody who waits for the disk.
  struct Waiter {
    absl::Duration until;
    Task late;  // null: waits no longer
  };
  void OnDisk(Task work, Task answered, Task late);
  void ArmTimer();
  // `why`: the cause alone; `sentence`: what follows «is in force and not kept».
  void SetNotKept(uint64_t number, absl::string_view why, absl::string_view sentence);
  // A revision to be written; without a source, with the configuration of the one before.
  struct Put {
    api::Revision revision;
    std::shared_ptr<const ConfigSource> source;
    bool is_own;
  };
  void WriteSoon(Put put, std::function<void(absl::Status)> done);
  static absl::Status Write(HistoryDisk& disk, Written& written, const Put& put);
  void SetNotAnswering(uint64_t number);

  std::shared_ptr<HistoryDisk> disk_;  // null: none
  const std::shared_ptr<Written> written_ = std::make_shared<Written>();
  uint64_t first_added_ = 0, added_ = 0;  // by this process; 0: none
  size_t writes_ = 0;                     // under way, and waiting
  std::unique_ptr<Put> put_off_;          // null unless that is kMaxWrites, or more
  EventLoop* loop_ = nullptr;
  std::deque<std::shared_ptr<Waiter>> waiters_;  // in the order in which they came
  std::unique_ptr<Timer> timer_;                 // of the first
  size_t unanswered_ = 0;                        // pieces of work that nobody waits for any longer
  std::string directory_;                        // empty: none
  const size_t max_revisions_ = kMaxRevisions;
  std::deque<api::Revision> revisions_;
  uint64_t last_number_ = 0;
  std::vector<std::string> read_warnings_;
  // Empty while what was written last is there; `not_kept_why_` is its cause alone.
  std::string write_warning_, not_kept_why_;
  absl::Time not_kept_since_;
  uint64_t warned_of_ = 0;  // the revision that it is about
  bool looked_for_last_ = false;
  std::optional<Last> last_;  // until Attach
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// What a daemon starts with.
struct Beginning {
  // With this alone: a configuration out of nowhere, for tests.
  Beginning(LoadedConfig config) : what{std::move(config), nullptr} {}
  explicit Beginning(LoadedSource source) : what(std::move(source)) {}

  LoadedSource what;
  Overrides overrides;
  std::string from = "file";  // as in Status.configuration
  std::string applied_file;   // as in Status
  std::string config_error;   // why the file is not in force
  std::string own_digest;     // of the file as it is, or as it was when it was last read
};

// Which configuration to start with:
//
//   the file is valid, and another than when the last revision was put in force    the file
//   the file is valid, and the same                                   the last revision
//   the file is broken or cannot be read, or this host cannot do it   the last revision
//
// where «the file» includes the files that it names, and «the last revision» is that of FindLast.
// If there is none, it is the file, or its errors, and why there is no history. Overrides are in
// all cases those of the newest revision, whatever became of its text. A file that yields counts as
// not there: if it is later as it was before, nothing has changed.
//
// `suits` says whether this host can do what a valid configuration asks of it, or why not; null:
// it can. It is called for the file and for the last revision at most, the one that is returned
// being the last one it was called for. That this host cannot do the last revision either is an
// error: an older one may be far from what is wanted now.
using Suits = std::function<absl::Status(const LoadedConfig&)>;
absl::StatusOr<Beginning> ChooseBeginning(History* history, const std::string& config_file,
                                          const Suits& suits = nullptr);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_HISTORY_H_
