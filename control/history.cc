#include "control/history.h"

#include <algorithm>
#include <future>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "control/history_disk.h"
#include "control/may_hang.h"
#include "glog/logging.h"

namespace guideway {

History::History(const std::string& state_directory, const std::string& config_file,
                 std::string why)
    : directory_(HistoryDisk::Directory(state_directory, config_file)),
      write_warning_(std::move(why)),
      not_kept_why_(absl::StripPrefix(write_warning_, "history: ")),
      not_kept_since_(absl::Now()) {}

History::History(const std::string& state_directory, const std::string& config_file,
                 size_t max_revisions, std::atomic<uint64_t>* steps)
    : max_revisions_(max_revisions) {
  auto disk = std::make_shared<HistoryDisk>(state_directory, config_file, max_revisions);
  directory_ = disk->directory();
  if (!disk->Lock()) {
    write_warning_ =
        absl::StrCat("history: another guidewayd uses ", directory_,
                     ", so nothing is kept by this one; give it a --state_directory of its own");
    not_kept_why_ = absl::StrCat("another guidewayd uses ", directory_);
    not_kept_since_ = absl::Now();
    return;
  }
  disk_ = std::move(disk);
  for (history::Record& record : disk_->ReadRecords(&last_number_, &read_warnings_, steps)) {
    revisions_.push_back(std::move(*record.mutable_revision()));
    authors_.Follow(revisions_.back());
    if (steps != nullptr) ++*steps;
  }
}

History::~History() = default;

void History::Attach(EventLoop* loop) {
  loop_ = loop;
  timer_ = loop->NewTimer();
  last_.reset();
}

// Has `work` done on the disk's thread, and calls `answered` when it is; `late` before that if it
// takes longer than kPatience, or at once where the disk is known not to answer.
void History::OnDisk(Task work, Task answered, Task late) {
  const auto waiter = std::make_shared<Waiter>();
  const bool is_late = unanswered_ > 0;
  if (is_late) {
    ++unanswered_;
  } else {
    *waiter = {loop_->Now() + kPatience, std::move(late)};
    waiters_.push_back(waiter);
    if (waiters_.size() == 1) ArmTimer();
  }
  loop_->RunOnHelper(std::move(work), [this, weak = std::weak_ptr<bool>(alive_), waiter,
                                       answered = std::move(answered)] {
    if (weak.expired()) return;
    if (waiter->late == nullptr) --unanswered_;
    waiter->late = nullptr;
    answered();
  });
  if (is_late) late();
}

void History::ArmTimer() {
  while (!waiters_.empty() && waiters_.front()->late == nullptr) waiters_.pop_front();
  if (waiters_.empty()) return timer_->Cancel();
  timer_->Set(waiters_.front()->until, [this] {
    while (!waiters_.empty() &&
           (waiters_.front()->late == nullptr || waiters_.front()->until <= loop_->Now())) {
      const auto waiter = waiters_.front();
      waiters_.pop_front();
      if (waiter->late == nullptr) continue;
      ++unanswered_;
      std::exchange(waiter->late, nullptr)();
    }
    ArmTimer();
  });
}

std::vector<std::string> History::warnings() const {
  std::vector<std::string> all = read_warnings_;
  if (!write_warning_.empty()) all.push_back(write_warning_);
  return all;
}

api::HistoryState History::State() const {
  api::HistoryState state;
  state.set_kept(write_warning_.empty());
  state.set_directory(directory_);
  if (!state.kept()) {
    state.set_not_kept_since(absl::FormatTime(not_kept_since_, absl::UTCTimeZone()));
    state.set_not_kept_why(not_kept_why_);
  }
  for (const std::string& warning : read_warnings_) state.add_warnings(warning);
  return state;
}

uint64_t History::Add(api::Revision revision, std::shared_ptr<const ConfigSource> source,
                      bool is_own, std::function<void(absl::Status)> done) {
  const uint64_t number = added_ = ++last_number_;
  if (first_added_ == 0) first_added_ = number;
  revision.set_number(number);
  revision.set_time(absl::FormatTime(absl::Now(), absl::UTCTimeZone()));
  if (source != nullptr)
    revision.set_digest(source->digest);
  else if (!revisions_.empty())
    revision.set_digest(revisions_.back().digest());
  revisions_.push_back(revision);
  authors_.Follow(revision);
  if (revisions_.size() > max_revisions_) {
    revisions_.erase(FirstToForget(
        revisions_.begin(), revisions_.end(),
        [](const api::Revision& a, const api::Revision& b) { return a.digest() == b.digest(); }));
  }
  if (disk_ == nullptr) {
    done(kept());
    return number;
  }
  CHECK(loop_ != nullptr);
  Put put = {std::move(revision), std::move(source), is_own};
  if (put_off_ == nullptr && (unanswered_ == 0 || writes_ < kMaxWrites)) {
    WriteSoon(std::move(put), std::move(done));
    return number;
  }
  // Of all that come while the disk hangs, the last is written when it answers again, with the last
  // configuration.
  if (put_off_ != nullptr) {
    const uint64_t passed_over = put_off_->revision.number();
    std::erase_if(revisions_, [&](const api::Revision& r) { return r.number() == passed_over; });
    if (put.source == nullptr) {
      put.source = put_off_->source;
      put.is_own = put_off_->is_own;
    }
  }
  put_off_ = std::make_unique<Put>(std::move(put));
  SetNotAnswering(number);
  done(kept());
  return number;
}

void History::WriteSoon(Put put, std::function<void(absl::Status)> done) {
  const uint64_t number = put.revision.number();
  const auto written = [this, number](const absl::Status& status) {
    if (!status.ok()) {
      SetNotKept(number, status.message(),
                 absl::StrCat(", so a restart would not find it: ", status.message(),
                              "; the next change tries again"));
    } else if (number >= warned_of_) {  // a record has all that holds with its revision
      write_warning_.clear();
    }
  };
  ++writes_;
  auto status = std::make_shared<absl::Status>();
  const auto told = std::make_shared<std::function<void(absl::Status)>>(std::move(done));
  const auto tell = [this, told] {
    if (*told) std::exchange(*told, nullptr)(kept());
  };
  OnDisk([disk = disk_, result = written_, put = std::move(put),
          status] { *status = Write(*disk, *result, put); },
         [this, status, written, tell] {
           --writes_;
           written(*status);
           if (put_off_ != nullptr) {
             WriteSoon(std::move(*std::exchange(put_off_, nullptr)), [](const absl::Status&) {});
           }
           tell();
         },
         [this, number, tell] {
           SetNotAnswering(number);
           tell();
         });
}

void History::SetNotAnswering(uint64_t number) {
  const std::string why =
      absl::StrCat("the disk has not answered for ", absl::FormatDuration(kPatience));
  SetNotKept(number, why,
             absl::StrCat(" yet: ", why,
                          ", and a restart finds the revision only if it still does; look "
                          "after the disk of the state directory"));
}

void History::SetNotKept(uint64_t number, absl::string_view why, absl::string_view sentence) {
  if (number < warned_of_ && !write_warning_.empty()) return;
  warned_of_ = number;
  if (write_warning_.empty()) not_kept_since_ = absl::Now();
  not_kept_why_ = std::string(why);
  write_warning_ =
      absl::StrCat("history: revision ", number, " is in force and not kept", sentence);
}

absl::Status History::Write(HistoryDisk& disk, Written& written, const Put& put) {
  absl::Status status = disk.Write(put.revision, put.source, put.is_own);
  const std::lock_guard<std::mutex> lock(written.mutex);
  if (status.ok()) {
    written.number = put.revision.number();
  } else {
    written.why = status;
  }
  return status;
}

absl::Status History::kept() const {
  return write_warning_.empty() ? absl::OkStatus() : absl::UnavailableError(write_warning_);
}

void History::AfterWrites(std::function<void(absl::Status)> done) {
  if (writes_ == 0) return done(kept());
  if (unanswered_ > 0) {
    SetNotAnswering(added_);
    return done(kept());
  }
  const auto told = std::make_shared<std::function<void(absl::Status)>>(std::move(done));
  const auto tell = [this, told] {
    if (*told) std::exchange(*told, nullptr)(kept());
  };
  // The helper thread does one thing after the other.
  OnDisk([] {}, tell, tell);
}

absl::Status History::Finish(absl::Duration limit) {
  if (disk_ == nullptr || added_ == 0) return absl::OkStatus();
  if (put_off_ != nullptr) {
    loop_->RunOnHelper(
        [disk = disk_, result = written_, put = std::move(*std::exchange(put_off_, nullptr))] {
          (void)Write(*disk, *result, put);
        },
        [] {});
  }
  const auto all = std::make_shared<std::promise<void>>();
  loop_->RunOnHelper([all] { all->set_value(); }, [] {});
  const bool answers =
      all->get_future().wait_for(absl::ToChronoNanoseconds(limit)) == std::future_status::ready;
  const std::lock_guard<std::mutex> lock(written_->mutex);
  // A record has all that holds with its revision: the last one is enough.
  if (written_->number == added_) {
    if (answers) return absl::OkStatus();
    return absl::DeadlineExceededError(absl::StrCat(
        "history: all revisions are on disk, but what was read there has not come for ",
        absl::FormatDuration(limit)));
  }
  const uint64_t first = std::max(written_->number + 1, first_added_);
  const std::string text = absl::StrCat(
      "history: revision", first == added_ ? "" : absl::StrCat("s ", first, " to"), " ", added_,
      " not on disk, so the next start does not find ", first == added_ ? "it" : "them", ": ",
      answers ? written_->why.message()
              : absl::StrCat("the disk has not answered for ", absl::FormatDuration(limit)));
  return answers ? absl::UnavailableError(text) : absl::DeadlineExceededError(text);
}

absl::Status History::NoSuchRevision(uint64_t number) const {
  std::string text = absl::StrCat("there is no revision ", number);
  if (!revisions_.empty()) {
    const uint64_t first = revisions_.front().number(), last = revisions_.back().number();
    // Not all between: the history forgets those that say the least, and not all may be readable.
    const bool are_all = last - first + 1 == revisions_.size();
    absl::StrAppend(&text, "; there are ",
                    are_all ? "" : absl::StrCat(revisions_.size(), ", numbered "), first, " to ",
                    last, are_all ? "" : " with gaps: `guideway history` lists them");
  }
  return absl::NotFoundError(text);
}

void History::Read(uint64_t number, ReadDone done) {
  const bool known = std::any_of(revisions_.begin(), revisions_.end(),
                                 [&](const api::Revision& r) { return r.number() == number; });
  absl::Status refused;
  if (!known) refused = NoSuchRevision(number);
  if (known && (disk_ == nullptr || loop_ == nullptr)) {
    refused = absl::FailedPreconditionError("the texts of revisions are not kept by this daemon");
  }
  const absl::Status late = absl::DeadlineExceededError(absl::StrCat(
      "revision ", number, " could not be read within ", absl::FormatDuration(kPatience),
      ": look after the disk of the state directory; `guideway apply` needs no disk"));
  if (known && unanswered_ > 0) refused = late;
  if (!refused.ok()) return done(refused);
  auto source = std::make_shared<absl::StatusOr<ConfigSource>>(absl::UnknownError(""));
  const auto told = std::make_shared<ReadDone>(std::move(done));
  OnDisk([disk = disk_, number, source] { *source = disk->ReadSource(number); },
         [source, told] {
           if (*told) std::exchange(*told, nullptr)(std::move(*source));
         },
         [told, late] { std::exchange(*told, nullptr)(late); });
}

absl::StatusOr<ConfigSource> History::ReadNow(uint64_t number) const {
  return disk_->ReadSource(number);
}

void History::KeepOwnDigest(std::string digest) { disk_->KeepOwnDigest(std::move(digest)); }

const std::optional<History::Last>& History::FindLast(std::atomic<uint64_t>* steps) {
  if (std::exchange(looked_for_last_, true)) return last_;
  std::set<std::string> tried;  // digests
  size_t wrong = 0;
  for (auto it = revisions_.rbegin(); it != revisions_.rend() && !last_; ++it) {
    if (!tried.insert(it->digest()).second) continue;
    const uint64_t number = it->number();
    const absl::StatusOr<ConfigSource> source = disk_->ReadSource(number);
    if (steps != nullptr) *steps |= kComputes;
    absl::StatusOr<LoadedSource> loaded =
        source.ok() ? LoadSource(*source) : absl::StatusOr<LoadedSource>(source.status());
    if (steps != nullptr) *steps = (*steps & ~kComputes) + 1;
    if (loaded.ok()) {
      const absl::StatusOr<history::Record> record = disk_->ReadRecord(number);
      last_ = {number, *std::move(loaded), record.ok() ? record->own_digest() : ""};
    } else if (++wrong <= kMaxHistoryWarnings) {
      const std::string why(loaded.status().message());
      Warn(absl::StrCat("history: revision ", number,
                        " cannot be put in force again: ", why.substr(0, why.find('\n'))));
    }
  }
  if (wrong > kMaxHistoryWarnings) {
    Warn(absl::StrCat("history: … nor can ", wrong - kMaxHistoryWarnings, " more"));
  }
  return last_;
}

absl::StatusOr<Beginning> ChooseBeginning(History* history, const std::string& config_file,
                                          const Suits& suits) {
  absl::StatusOr<LoadedSource> file = LoadSourceFile(config_file);
  const std::optional<History::Last>& last = history->FindLast();
  const bool changed = file.ok() && (!last || file->source->digest != last->own_digest);
  const bool same = file.ok() && last && last->loaded.source->digest == file->source->digest;
  absl::Status refused = file.status();
  bool is_file = changed || same;
  if (is_file && suits) refused = suits(file->config);
  if (!refused.ok()) {
    if (!last && !history->kept().ok()) {
      return absl::Status(refused.code(),
                          absl::StrCat(refused.message(), "\n", history->kept().message()));
    }
    if (!last || same) return refused;
    is_file = false;
  }
  if (!is_file && suits) {
    if (const absl::Status s = suits(last->loaded.config); !s.ok()) {
      if (refused.ok()) return s;
      return absl::FailedPreconditionError(
          absl::StrCat(refused.message(), "\nthe last revision, ", last->number,
                       ", cannot be served in its place: ", s.message()));
    }
  }
  const std::string own_digest = file.ok() ? file->source->digest : last->own_digest;
  Beginning beginning(is_file ? *std::move(file) : last->loaded);
  beginning.own_digest = own_digest;
  if (!is_file) {
    beginning.from = refused.ok() ? "applied" : "last revision";
    beginning.applied_file = beginning.what.source->name;
  }
  if (!refused.ok()) {
    beginning.config_error = std::string(refused.message());
    history->KeepOwnDigest(last->own_digest);
  }
  if (!history->revisions().empty()) {
    beginning.overrides = FromApi(history->revisions().back().overrides());
  }
  return beginning;
}

}  // namespace guideway
