#include "control/history.h"

#include <dirent.h>
#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <future>
#include <optional>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "control/history.pb.h"
#include "control/may_hang.h"
#include "glog/logging.h"

namespace guideway {
namespace {

namespace fs = std::filesystem;

// A record of ten thousand overrides has 2 MB.
constexpr size_t kMaxRecordBytes = size_t{64} << 20;

// Numbers of revisions are below: so one more never wraps.
constexpr uint64_t kMaxNumber = 1'000'000'000'000'000;

// Warnings that are told one by one.
constexpr size_t kMaxWarnings = 10;

constexpr char kUnfinished[] = ".unfinished";

// What the system says comes first: it fits a line where a path does not.
absl::Status CannotDo(const char* what, const std::string& path, int error = errno) {
  return absl::UnavailableError(
      absl::StrCat(std::strerror(error), " (cannot ", what, " ", path, ")"));
}

// Whatever lies there: no link is followed, nobody waits for a pipe.
absl::StatusOr<std::string> ReadRegular(const std::string& path, size_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return absl::NotFoundError(std::strerror(errno));
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat status;
  if (fstat(fd, &status) != 0) return absl::UnavailableError(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return absl::FailedPreconditionError("it is no regular file");
  if (static_cast<uint64_t>(status.st_size) > max_bytes) {
    return absl::OutOfRangeError("it is too large");
  }
  std::string text(static_cast<size_t>(status.st_size), '\0');
  for (size_t have = 0; have < text.size();) {
    const ssize_t n = read(fd, text.data() + have, text.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(std::strerror(errno));
    if (n == 0) return absl::DataLossError("it became shorter");
    have += static_cast<size_t>(n);
  }
  return text;
}

// Of revisions, oldest first, the one to forget: the oldest that has the configuration of the next.
// So restarts and drains, however many, push no configuration out.
template <typename Iterator, typename Same>
Iterator FirstToForget(Iterator begin, Iterator end, Same same) {
  const Iterator found = std::adjacent_find(begin, end, same);
  return found == end ? begin : found;
}

// Makes entries of a directory last: files that were renamed into it, or removed.
absl::Status SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  if (fd < 0) return CannotDo("open", path);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  return fsync(fd) == 0 ? absl::OkStatus() : CannotDo("write", path);
}

// The file `name` of `directory`, whole or not at all. SyncDirectory makes it last.
absl::Status WriteFile(const std::string& directory, const std::string& name,
                       absl::string_view text) {
  const std::string unfinished = absl::StrCat(directory, "/", kUnfinished);
  const std::string path = absl::StrCat(directory, "/", name);
  unlink(unfinished.c_str());  // of a daemon that was killed
  const int fd = open(unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return CannotDo("write", path);
  const auto write_all = [&] {
    while (!text.empty()) {
      const ssize_t n = write(fd, text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return false;
      text.remove_prefix(static_cast<size_t>(n));
    }
    return fsync(fd) == 0;
  };
  absl::Status status = write_all() ? absl::OkStatus() : CannotDo("write", path);
  close(fd);
  if (status.ok() && rename(unfinished.c_str(), path.c_str()) != 0) {
    status = CannotDo("write", path);
  }
  if (!status.ok()) unlink(unfinished.c_str());
  return status;
}

bool IsDigest(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
         });
}

// What can go to a terminal and into a log.
bool IsLine(const std::string& text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); });
}

bool IsSound(const history::Record& record, uint64_t number) {
  const api::Revision& revision = record.revision();
  bool sound = revision.number() == number && IsDigest(record.text()) &&
               IsDigest(revision.digest()) && IsLine(record.home()) &&
               (record.own_digest().empty() || IsDigest(record.own_digest()));
  for (const std::string* line :
       {&revision.time(), &revision.who(), &revision.how(), &revision.file()}) {
    sound = sound && IsLine(*line);
  }
  for (const history::NamedFile& file : record.files()) sound = sound && IsDigest(file.digest());
  for (const api::Override& o : revision.overrides()) {
    sound = sound && IsLine(o.service()) && IsLine(o.backend());
  }
  return sound;
}

// Nothing for a name that no revision has.
std::optional<uint64_t> NumberOf(absl::string_view name) {
  uint64_t number = 0;
  if (!absl::ConsumeSuffix(&name, ".json") || !absl::SimpleAtoi(name, &number) || number == 0 ||
      number >= kMaxNumber || absl::StrCat(number) != name) {
    return std::nullopt;
  }
  return number;
}

// Entries of a directory; of one that is not there none.
absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code e;
  for (fs::directory_iterator it(directory, e), end; !e && it != end; it.increment(e)) {
    names.push_back(it->path().filename().string());
  }
  const bool is_there = e.value() != ENOENT && e.value() != ENOTDIR;
  if (e && is_there) return CannotDo("read", directory, e.value());
  return names;
}

// «etc-guideway.yaml-1f2e3d4c»
std::string DirectoryName(const std::string& config_file) {
  std::error_code e;
  const std::string path = fs::absolute(config_file, e).lexically_normal().string();
  std::string readable;
  for (char c : path) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_';
    readable += plain ? c : '-';
  }
  constexpr size_t kReadable = 100;
  readable = readable.substr(readable.size() > kReadable ? readable.size() - kReadable : 0);
  return absl::StrCat(absl::StripPrefix(absl::string_view(readable), "-"), "-",
                      Sha256(path).substr(0, 8));
}

std::vector<std::string> DigestsOf(const history::Record& record) {
  std::vector<std::string> digests = {record.text()};
  for (const history::NamedFile& file : record.files()) digests.push_back(file.digest());
  std::sort(digests.begin(), digests.end());
  return digests;
}

}  // namespace

namespace {

// The daemon's own file as it was when it was last looked at: which files a text names.
class OwnFile {
 public:
  OwnFile() = default;
  explicit OwnFile(const ConfigSource& source) : text_(Sha256(source.text)) {
    for (const auto& [path, contents] : source.files) paths_.push_back(path);
  }

  // What it is now; empty if it could not be put in force.
  std::string Digest(const std::string& path) {
    // Of a pipe nobody knows when it ends.
    const absl::StatusOr<std::string> text = ReadNamedFile(path);
    if (!text.ok()) return "";
    if (Sha256(*text) == text_) {
      std::map<std::string, std::string> files;
      for (const std::string& named : paths_) {
        absl::StatusOr<std::string> contents = ReadNamedFile(named);
        if (!contents.ok()) return "";
        files[named] = *std::move(contents);
      }
      return DigestOf(*text, files);
    }
    const absl::StatusOr<LoadedSource> own = LoadSource(path, *text, path);
    if (!own.ok()) return "";
    *this = OwnFile(*own->source);
    return own->source->digest;
  }

 private:
  std::string text_;  // its SHA-256
  std::vector<std::string> paths_;
};

}  // namespace

// What is on disk. On one thread at a time.
class History::Disk {
 public:
  Disk(std::string directory, std::string config_file, size_t max_revisions)
      : max_revisions_(max_revisions),
        directory_(std::move(directory)),
        revisions_(directory_ + "/revisions"),
        texts_(directory_ + "/texts"),
        config_file_(std::move(config_file)) {}
  ~Disk() {
    if (lock_ >= 0) close(lock_);
  }

  // False if another process has the directory. One that cannot be made is found out when something
  // is to be written there.
  bool Lock() {
    (void)MakeDirectories();  // that it cannot be is found out then, too
    const std::string path = directory_ + "/lock";
    lock_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return lock_ < 0 || flock(lock_, LOCK_EX | LOCK_NB) == 0;
  }

  // Oldest first.
  std::vector<history::Record> ReadRecords(uint64_t* last_number,
                                           std::vector<std::string>* warnings,
                                           std::atomic<uint64_t>* steps);
  absl::StatusOr<history::Record> ReadRecord(uint64_t number) const;
  absl::StatusOr<ConfigSource> ReadSource(uint64_t number) const;
  absl::Status Write(const api::Revision& revision, std::shared_ptr<const ConfigSource> source,
                     bool is_own);
  void KeepOwnDigest(std::string digest) { own_digest_ = std::move(digest); }

 private:
  struct Kept {
    uint64_t number;
    std::shared_ptr<const std::vector<std::string>> digests;  // equal ones are shared
  };

  std::string PathOf(uint64_t number) const {
    return absl::StrCat(revisions_, "/", number, ".json");
  }
  absl::Status MakeDirectories() {
    const std::string parent = fs::path(directory_).parent_path().string();
    std::error_code e;
    fs::create_directories(parent, e);
    if (e) return CannotDo("make", parent, e.value());
    bool are_new = false;
    for (const std::string& path : {directory_, revisions_, texts_}) {
      if (mkdir(path.c_str(), 0700) == 0) {
        are_new = true;
      } else if (errno != EEXIST) {
        return CannotDo("make", path);
      }
    }
    if (!are_new) return absl::OkStatus();
    // If this fails, so does what is written there.
    (void)SyncDirectory(directory_);
    (void)SyncDirectory(parent);
    return absl::OkStatus();
  }
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

// What the disk has is what was read at the start, and written since. Where another directory has
// come in its place (the disk that was missing at the start, say), its revisions are somebody's,
// and their numbers are taken.
absl::Status History::Disk::CheckKnown() {
  struct stat facts;
  if (stat(revisions_.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) {
    return absl::OkStatus();  // writing will say why
  }
  const std::pair<dev_t, ino_t> found(facts.st_dev, facts.st_ino);
  if (known_ == found) return absl::OkStatus();
  const absl::StatusOr<std::vector<std::string>> names = NamesIn(revisions_);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (!NumberOf(name)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(revisions_, " has revisions that this guidewayd has not read at its start: ",
                     "was it mounted since? A restart goes on with these; nothing is written into ",
                     "it before"));
  }
  known_ = found;
  return absl::OkStatus();
}

void History::Disk::Keep(const history::Record& record) {
  std::vector<std::string> digests = DigestsOf(record);
  if (kept_.empty() || *kept_.back().digests != digests) {
    kept_.push_back({record.revision().number(),
                     std::make_shared<const std::vector<std::string>>(std::move(digests))});
  } else {
    kept_.push_back({record.revision().number(), kept_.back().digests});
  }
}

absl::StatusOr<history::Record> History::Disk::ReadRecord(uint64_t number) const {
  const absl::StatusOr<std::string> text = ReadRegular(PathOf(number), kMaxRecordBytes);
  if (!text.ok()) return text.status();
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // of a newer daemon
  history::Record record;
  if (!google::protobuf::util::JsonStringToMessage(*text, &record, options).ok() ||
      !IsSound(record, number)) {
    return absl::DataLossError("it is no record of that revision");
  }
  return record;
}

std::vector<history::Record> History::Disk::ReadRecords(uint64_t* last_number,
                                                        std::vector<std::string>* warnings,
                                                        std::atomic<uint64_t>* steps) {
  const absl::StatusOr<std::vector<std::string>> names = NamesIn(revisions_);
  if (!names.ok()) {
    all_was_readable_ = false;
    warnings->push_back(
        absl::StrCat("history: no revision could be read: ", names.status().message(),
                     "; mend that and restart guidewayd, nothing is written there "
                     "before"));
    return {};
  }
  struct stat facts;
  if (stat(revisions_.c_str(), &facts) == 0) known_.emplace(facts.st_dev, facts.st_ino);
  size_t skipped = 0;
  const auto skip = [&](const std::string& path, absl::string_view why) {
    all_was_readable_ = false;
    if (++skipped > kMaxWarnings) return;
    std::string shown = path;
    if (!IsLine(shown)) {
      std::replace_if(
          shown.begin(), shown.end(),
          [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); }, '?');
    }
    warnings->push_back(absl::StrCat("history: ", shown, " is left out: ", why));
  };
  std::vector<uint64_t> numbers;
  for (const std::string& name : *names) {
    if (const auto number = NumberOf(name)) {
      numbers.push_back(*number);
    } else if (name != kUnfinished) {
      skip(absl::StrCat(revisions_, "/", name), "no revision has such a name");
    }
  }
  std::sort(numbers.begin(), numbers.end());
  *last_number = numbers.empty() ? 0 : numbers.back();
  if (numbers.size() > max_revisions_) {
    const auto first = numbers.end() - static_cast<ptrdiff_t>(max_revisions_);
    too_old_.assign(numbers.begin(), first);
    numbers.erase(numbers.begin(), first);
  }
  std::vector<history::Record> records;
  for (uint64_t number : numbers) {
    absl::StatusOr<history::Record> record = ReadRecord(number);
    if (steps != nullptr) ++*steps;
    if (!record.ok()) {
      skip(PathOf(number), record.status().message());
      continue;
    }
    Keep(*record);
    records.push_back(*std::move(record));
  }
  if (skipped > kMaxWarnings) {
    warnings->push_back(
        absl::StrCat("history: … and ", skipped - kMaxWarnings, " more files in ", revisions_));
  }
  if (!records.empty()) last_ = records.back();
  return records;
}

absl::StatusOr<std::string> History::Disk::ReadText(const std::string& digest) const {
  const std::string path = absl::StrCat(texts_, "/", digest);
  absl::StatusOr<std::string> text = ReadRegular(path, kMaxConfigBytes);
  if (!text.ok()) {
    return absl::Status(text.status().code(),
                        absl::StrCat("cannot read ", path, ": ", text.status().message()));
  }
  if (Sha256(*text) != digest) {
    return absl::DataLossError(absl::StrCat(path, " does not hold what was written there"));
  }
  return text;
}

absl::StatusOr<ConfigSource> History::Disk::ReadSource(uint64_t number) const {
  const absl::StatusOr<history::Record> record = ReadRecord(number);
  if (!record.ok()) {
    return absl::Status(record.status().code(), absl::StrCat("cannot read ", PathOf(number), ": ",
                                                             record.status().message()));
  }
  ConfigSource source;
  source.name = record->revision().file();
  source.home = record->home();
  source.digest = record->revision().digest();
  absl::StatusOr<std::string> text = ReadText(record->text());
  if (!text.ok()) return text.status();
  source.text = *std::move(text);
  for (const history::NamedFile& file : record->files()) {
    absl::StatusOr<std::string> contents = ReadText(file.digest());
    if (!contents.ok()) return contents.status();
    source.files[file.path()] = *std::move(contents);
  }
  return source;
}

absl::Status History::Disk::WriteTexts(const ConfigSource& source) {
  std::vector<const std::string*> texts = {&source.text};
  for (const auto& [path, contents] : source.files) texts.push_back(&contents);
  for (const std::string* text : texts) {
    const std::string digest = Sha256(*text);
    if (ReadText(digest).ok()) continue;
    if (absl::Status s = WriteFile(texts_, digest, *text); !s.ok()) return s;
  }
  return SyncDirectory(texts_);
}

// What the file is now; empty if it could not be put in force. If it does not answer, what it was
// when it last did: it may be on another disk, for which the history does not wait for long.
std::string History::Disk::DigestOfOwnFile() {
  struct Look {
    OwnFile file;
    std::string digest;
  };
  const auto look = std::make_shared<Look>(Look{own_file_, ""});
  if (DetachedThreads() >= kMaxThreadsApart ||
      !RunWithin(kPatience / 2,
                 [look, path = config_file_](Steps&) { look->digest = look->file.Digest(path); })) {
    return last_.own_digest();
  }
  own_file_ = std::move(look->file);
  return std::move(look->digest);
}

absl::Status History::Disk::Write(const api::Revision& revision,
                                  std::shared_ptr<const ConfigSource> source, bool is_own) {
  *last_.mutable_revision() = revision;
  if (source != nullptr) {
    last_.set_home(source->home);
    last_.set_text(Sha256(source->text));
    last_.clear_files();
    for (const auto& [path, contents] : source->files) {
      history::NamedFile& file = *last_.add_files();
      file.set_path(path);
      file.set_digest(Sha256(contents));
    }
    if (is_own) {
      own_file_ = OwnFile(*source);
      last_.set_own_digest(source->digest);
    } else {
      last_.set_own_digest(own_digest_ ? *std::exchange(own_digest_, std::nullopt)
                                       : DigestOfOwnFile());
    }
    unwritten_ = std::move(source);
  }
  if (absl::Status s = MakeDirectories(); !s.ok()) return s;
  if (absl::Status s = CheckKnown(); !s.ok()) return s;
  if (unwritten_ != nullptr) {
    if (absl::Status s = WriteTexts(*unwritten_); !s.ok()) return s;
    unwritten_.reset();
  }
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.add_whitespace = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(last_, &json, options).ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write ", PathOf(revision.number()), ": a path in it is not UTF-8"));
  }
  absl::Status status = WriteFile(revisions_, absl::StrCat(revision.number(), ".json"), json);
  if (status.ok()) status = SyncDirectory(revisions_);
  if (!status.ok()) return status;
  Keep(last_);
  RemoveOld();
  return absl::OkStatus();
}

void History::Disk::RemoveOld() {
  std::set<std::string> unused;
  for (uint64_t number : std::exchange(too_old_, {})) unlink(PathOf(number).c_str());
  while (kept_.size() > max_revisions_) {
    const auto old = FirstToForget(kept_.begin(), kept_.end(), [](const Kept& a, const Kept& b) {
      return *a.digests == *b.digests;
    });
    unlink(PathOf(old->number).c_str());
    unused.insert(old->digests->begin(), old->digests->end());
    kept_.erase(old);
  }
  // Once: what was left by a daemon that was killed. Not where something could not be read: it may
  // need its texts when that is mended.
  if (!std::exchange(swept_, true) && all_was_readable_) {
    const absl::StatusOr<std::vector<std::string>> names = NamesIn(texts_);
    for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
      if (IsDigest(name)) unused.insert(name);
    }
  }
  if (unused.empty()) return;
  const std::vector<std::string>* before = nullptr;
  for (const Kept& kept : kept_) {
    if (kept.digests.get() == before) continue;
    before = kept.digests.get();
    for (const std::string& digest : *before) unused.erase(digest);
  }
  for (const std::string& digest : unused) unlink(absl::StrCat(texts_, "/", digest).c_str());
}

History::History(std::string why)
    : write_warning_(std::move(why)),
      not_kept_why_(absl::StripPrefix(write_warning_, "history: ")),
      not_kept_since_(absl::Now()) {}

History::History(const std::string& state_directory, const std::string& config_file,
                 size_t max_revisions, std::atomic<uint64_t>* steps)
    : directory_(absl::StrCat(state_directory, "/", DirectoryName(config_file))),
      max_revisions_(max_revisions) {
  auto disk = std::make_shared<Disk>(directory_, config_file, max_revisions);
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

absl::Status History::Write(Disk& disk, Written& written, const Put& put) {
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
  if (last_) return *last_;
  last_.emplace();
  std::set<std::string> tried;  // digests
  size_t wrong = 0;
  for (auto it = revisions_.rbegin(); it != revisions_.rend() && !*last_; ++it) {
    if (!tried.insert(it->digest()).second) continue;
    const uint64_t number = it->number();
    const absl::StatusOr<ConfigSource> source = disk_->ReadSource(number);
    if (steps != nullptr) *steps |= kComputes;
    absl::StatusOr<LoadedSource> loaded =
        source.ok() ? LoadSource(*source) : absl::StatusOr<LoadedSource>(source.status());
    if (steps != nullptr) *steps = (*steps & ~kComputes) + 1;
    if (loaded.ok()) {
      const absl::StatusOr<history::Record> record = disk_->ReadRecord(number);
      *last_ = {number, *std::move(loaded), record.ok() ? record->own_digest() : ""};
    } else if (++wrong <= kMaxWarnings) {
      const std::string why(loaded.status().message());
      Warn(absl::StrCat("history: revision ", number,
                        " cannot be put in force again: ", why.substr(0, why.find('\n'))));
    }
  }
  if (wrong > kMaxWarnings) {
    Warn(absl::StrCat("history: … nor can ", wrong - kMaxWarnings, " more"));
  }
  return *last_;
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
