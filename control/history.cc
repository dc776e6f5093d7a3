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

absl::Status CannotDo(const char* what, const std::string& path) {
  return absl::UnavailableError(
      absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(errno)));
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

// Entries of a directory; of one that cannot be read none.
std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code e;
  for (fs::directory_iterator it(directory, e), end; !e && it != end; it.increment(e)) {
    names.push_back(it->path().filename().string());
  }
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
    MakeDirectories();
    const std::string path = directory_ + "/lock";
    lock_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return lock_ < 0 || flock(lock_, LOCK_EX | LOCK_NB) == 0;
  }

  // Oldest first.
  std::vector<history::Record> ReadRecords(uint64_t* last_number,
                                           std::vector<std::string>* warnings);
  absl::StatusOr<history::Record> ReadRecord(uint64_t number) const;
  absl::StatusOr<ConfigSource> ReadSource(uint64_t number) const;
  absl::Status Write(const api::Revision& revision, std::shared_ptr<const ConfigSource> source,
                     bool is_own);

 private:
  struct Kept {
    uint64_t number;
    std::shared_ptr<const std::vector<std::string>> digests;  // equal ones are shared
  };

  std::string PathOf(uint64_t number) const {
    return absl::StrCat(revisions_, "/", number, ".json");
  }
  void MakeDirectories() {
    std::error_code e;
    fs::create_directories(fs::path(directory_).parent_path(), e);
    bool are_new = false;
    for (const std::string& path : {directory_, revisions_, texts_}) {
      are_new |= mkdir(path.c_str(), 0700) == 0;
    }
    if (!are_new) return;
    // If this fails, so does what is written there.
    (void)SyncDirectory(directory_);
    (void)SyncDirectory(fs::path(directory_).parent_path().string());
  }
  void Keep(const history::Record& record);
  absl::StatusOr<std::string> ReadText(const std::string& digest) const;
  absl::Status WriteTexts(const ConfigSource& source);
  std::string DigestOfOwnFile();
  void RemoveOld();

  const size_t max_revisions_;
  const std::string directory_, revisions_, texts_;
  const std::string config_file_;
  int lock_ = -1;
  std::deque<Kept> kept_;
  std::vector<uint64_t> too_old_;  // found at the start
  bool all_was_readable_ = true;
  bool swept_ = false;

  // Of the last revision, and its configuration until its texts are written.
  history::Record last_;
  std::shared_ptr<const ConfigSource> unwritten_;

  // Of the daemon's own file when it was last looked at: which files a text names.
  std::string own_text_digest_;
  std::vector<std::string> own_paths_;
};

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
                                                        std::vector<std::string>* warnings) {
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
  for (const std::string& name : NamesIn(revisions_)) {
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

// What the file is now; empty if it could not be put in force.
std::string History::Disk::DigestOfOwnFile() {
  // Of a pipe nobody knows when it ends.
  const absl::StatusOr<std::string> text = ReadNamedFile(config_file_);
  if (!text.ok()) return "";
  if (Sha256(*text) == own_text_digest_) {
    std::map<std::string, std::string> files;
    for (const std::string& path : own_paths_) {
      absl::StatusOr<std::string> contents = ReadNamedFile(path);
      if (!contents.ok()) return "";
      files[path] = *std::move(contents);
    }
    return DigestOf(*text, files);
  }
  const absl::StatusOr<LoadedSource> own = LoadSource(config_file_, *text, config_file_);
  if (!own.ok()) return "";
  own_text_digest_ = Sha256(*text);
  own_paths_.clear();
  for (const auto& [path, contents] : own->source->files) own_paths_.push_back(path);
  return own->source->digest;
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
      own_text_digest_ = last_.text();
      own_paths_.clear();
      for (const auto& [path, contents] : source->files) own_paths_.push_back(path);
      last_.set_own_digest(source->digest);
    } else {
      last_.set_own_digest(DigestOfOwnFile());
    }
    unwritten_ = std::move(source);
  }
  MakeDirectories();
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
    for (const std::string& name : NamesIn(texts_)) {
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

History::History() = default;

History::History(const std::string& state_directory, const std::string& config_file,
                 size_t max_revisions)
    : max_revisions_(max_revisions) {
  const std::string directory = absl::StrCat(state_directory, "/", DirectoryName(config_file));
  auto disk = std::make_shared<Disk>(directory, config_file, max_revisions);
  if (!disk->Lock()) {
    Warn(absl::StrCat("history: another guidewayd uses ", directory,
                      ", so nothing is kept by this one; give it a --state_directory of its own"));
    return;
  }
  disk_ = std::move(disk);
  for (history::Record& record : disk_->ReadRecords(&last_number_, &read_warnings_)) {
    revisions_.push_back(std::move(*record.mutable_revision()));
  }
}

History::~History() = default;

void History::Attach(EventLoop* loop) { loop_ = loop; }

std::vector<std::string> History::warnings() const {
  std::vector<std::string> all = read_warnings_;
  if (!write_warning_.empty()) all.push_back(write_warning_);
  return all;
}

uint64_t History::Add(api::Revision revision, std::shared_ptr<const ConfigSource> source,
                      bool is_own, std::function<void(absl::Status)> done) {
  const uint64_t number = ++last_number_;
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
  const auto written = [this, number, done = std::move(done)](const absl::Status& status) {
    write_warning_ = status.ok() ? ""
                                 : absl::StrCat("history: revision ", number,
                                                " is in force and not kept, so a restart would "
                                                "not find it: ",
                                                status.message(), "; the next change tries again");
    done(status.ok() ? absl::OkStatus() : absl::UnavailableError(write_warning_));
  };
  if (disk_ == nullptr || loop_ == nullptr) {
    written(disk_ == nullptr ? absl::OkStatus()
                             : disk_->Write(revision, std::move(source), is_own));
    return number;
  }
  auto status = std::make_shared<absl::Status>();
  loop_->RunOnHelper([disk = disk_, revision = std::move(revision), source = std::move(source),
                      is_own, status] { *status = disk->Write(revision, source, is_own); },
                     [weak = std::weak_ptr<bool>(alive_), status, written] {
                       if (!weak.expired()) written(*status);
                     });
  return number;
}

absl::Status History::NoSuchRevision(uint64_t number) const {
  return absl::NotFoundError(revisions_.empty()
                                 ? absl::StrCat("there is no revision ", number)
                                 : absl::StrCat("there is no revision ", number, "; there are ",
                                                revisions_.front().number(), " to ",
                                                revisions_.back().number()));
}

void History::Read(uint64_t number, ReadDone done) {
  const bool known = std::any_of(revisions_.begin(), revisions_.end(),
                                 [&](const api::Revision& r) { return r.number() == number; });
  absl::Status refused;
  if (!known) refused = NoSuchRevision(number);
  if (known && (disk_ == nullptr || loop_ == nullptr)) {
    refused = absl::FailedPreconditionError("the texts of revisions are not kept by this daemon");
  }
  if (!refused.ok()) return done(refused);
  auto source = std::make_shared<absl::StatusOr<ConfigSource>>(absl::UnknownError(""));
  loop_->RunOnHelper([disk = disk_, number, source] { *source = disk->ReadSource(number); },
                     [weak = std::weak_ptr<bool>(alive_), source, done = std::move(done)] {
                       if (!weak.expired()) done(std::move(*source));
                     });
}

absl::StatusOr<ConfigSource> History::ReadNow(uint64_t number) const {
  return disk_->ReadSource(number);
}

std::string History::OwnDigest(uint64_t number) const {
  const absl::StatusOr<history::Record> record = disk_->ReadRecord(number);
  return record.ok() ? record->own_digest() : "";
}

absl::StatusOr<Beginning> ChooseBeginning(History* history, const std::string& config_file) {
  absl::StatusOr<LoadedSource> file = LoadSourceFile(config_file);
  std::optional<LoadedSource> last;
  std::string last_own;
  for (auto it = history->revisions().rbegin(); it != history->revisions().rend() && !last; ++it) {
    absl::StatusOr<ConfigSource> source = history->ReadNow(it->number());
    absl::StatusOr<LoadedSource> loaded =
        source.ok() ? LoadSource(*source) : absl::StatusOr<LoadedSource>(source.status());
    if (loaded.ok()) {
      last = *std::move(loaded);
      last_own = history->OwnDigest(it->number());
    } else {
      const std::string why(loaded.status().message());
      history->Warn(absl::StrCat("history: revision ", it->number(),
                                 " cannot be put in force again: ", why.substr(0, why.find('\n'))));
    }
  }
  if (!file.ok() && !last) return file.status();

  const bool changed = file.ok() && (!last || file->source->digest != last_own);
  const bool same = file.ok() && last && last->source->digest == file->source->digest;
  Beginning beginning(changed || same ? *std::move(file) : *std::move(last));
  if (!changed && !same) {
    beginning.from = file.ok() ? "applied" : "last revision";
    beginning.applied_file = beginning.what.source->name;
    if (!file.ok()) beginning.config_error = std::string(file.status().message());
  }
  if (!history->revisions().empty()) {
    beginning.overrides = FromApi(history->revisions().back().overrides());
  }
  return beginning;
}

}  // namespace guideway
