#include "control/history_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "control/may_hang.h"
#include "glog/logging.h"

namespace guideway {
namespace {

namespace fs = std::filesystem;

// A record of ten thousand overrides has 2 MB.
constexpr size_t kMaxRecordBytes = size_t{64} << 20;

// Numbers of revisions are below: so one more never wraps.
constexpr uint64_t kMaxNumber = 1'000'000'000'000'000;

// How long a history waits for the daemon's own file, which may be on another disk.
constexpr absl::Duration kOwnFilePatience = absl::Seconds(5);

constexpr char kUnfinished[] = ".unfinished";

// What the system says comes first: it fits a line where a path does not.
absl::Status CannotDo(const char* what, const std::string& path, int error = errno) {
  return absl::UnavailableError(
      absl::StrCat(std::strerror(error), " (cannot ", what, " ", path, ")"));
}

// Whatever lies there: no link is followed, nobody waits for a pipe.
absl::StatusOr<std::string> ReadRegular(const std::string& path, size_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return absl::UnavailableError(std::strerror(errno));
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

std::vector<std::string> DigestsOf(const history::Record& record) {
  std::vector<std::string> digests = {record.text()};
  for (const history::NamedFile& file : record.files()) digests.push_back(file.digest());
  std::sort(digests.begin(), digests.end());
  return digests;
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

}  // namespace

std::string HistoryDisk::Directory(const std::string& state_directory,
                                   const std::string& config_file) {
  return absl::StrCat(state_directory, "/", DirectoryName(config_file));
}

HistoryDisk::HistoryDisk(const std::string& state_directory, std::string config_file,
                         size_t max_revisions)
    : max_revisions_(max_revisions),
      directory_(Directory(state_directory, config_file)),
      revisions_(directory_ + "/revisions"),
      texts_(directory_ + "/texts"),
      config_file_(std::move(config_file)) {}

HistoryDisk::~HistoryDisk() {
  if (lock_ >= 0) close(lock_);
}

bool HistoryDisk::Lock() {
  (void)MakeDirectories();  // that it cannot be is found out then, too
  const std::string path = directory_ + "/lock";
  lock_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  return lock_ < 0 || flock(lock_, LOCK_EX | LOCK_NB) == 0;
}

absl::Status HistoryDisk::MakeDirectories() {
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

HistoryDisk::OwnFile::OwnFile(const ConfigSource& source) : text_(Sha256(source.text)) {
  for (const auto& [path, contents] : *source.files) paths_.push_back(path);
}

std::string HistoryDisk::OwnFile::Digest(const std::string& path) {
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

// What the disk has is what was read at the start, and written since. Where another directory has
// come in its place (the disk that was missing at the start, say), its revisions are somebody's,
// and their numbers are taken.
absl::Status HistoryDisk::CheckKnown() {
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

void HistoryDisk::Keep(const history::Record& record) {
  std::vector<std::string> digests = DigestsOf(record);
  if (kept_.empty() || *kept_.back().digests != digests) {
    kept_.push_back({record.revision().number(),
                     std::make_shared<const std::vector<std::string>>(std::move(digests))});
  } else {
    kept_.push_back({record.revision().number(), kept_.back().digests});
  }
}

absl::StatusOr<history::Record> HistoryDisk::ReadRecord(uint64_t number) const {
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

std::vector<history::Record> HistoryDisk::ReadRecords(uint64_t* last_number,
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
    if (++skipped > kMaxHistoryWarnings) return;
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
  if (skipped > kMaxHistoryWarnings) {
    warnings->push_back(absl::StrCat("history: … and ", skipped - kMaxHistoryWarnings,
                                     " more files in ", revisions_));
  }
  if (!records.empty()) last_ = records.back();
  return records;
}

absl::StatusOr<std::string> HistoryDisk::ReadText(const std::string& digest) const {
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

absl::StatusOr<ConfigSource> HistoryDisk::ReadSource(uint64_t number) const {
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
  FileContents files;
  for (const history::NamedFile& file : record->files()) {
    absl::StatusOr<std::string> contents = ReadText(file.digest());
    if (!contents.ok()) return contents.status();
    files[file.path()] = *std::move(contents);
  }
  source.files = std::make_shared<const FileContents>(std::move(files));
  return source;
}

absl::Status HistoryDisk::WriteTexts(const ConfigSource& source) {
  std::vector<const std::string*> texts = {&source.text};
  for (const auto& [path, contents] : *source.files) texts.push_back(&contents);
  for (const std::string* text : texts) {
    const std::string digest = Sha256(*text);
    if (ReadText(digest).ok()) continue;
    if (absl::Status s = WriteFile(texts_, digest, *text); !s.ok()) return s;
  }
  return SyncDirectory(texts_);
}

// What the file is now; empty if it could not be put in force. If it does not answer, what it was
// when it last did: it may be on another disk, for which the history does not wait for long.
std::string HistoryDisk::DigestOfOwnFile() {
  struct Look {
    OwnFile file;
    std::string digest;
  };
  const auto look = std::make_shared<Look>(Look{own_file_, ""});
  if (DetachedThreads() >= kMaxThreadsApart ||
      !RunWithin(kOwnFilePatience,
                 [look, path = config_file_](Steps&) { look->digest = look->file.Digest(path); })) {
    return last_.own_digest();
  }
  own_file_ = std::move(look->file);
  return std::move(look->digest);
}

absl::Status HistoryDisk::Write(const api::Revision& revision,
                                std::shared_ptr<const ConfigSource> source, bool is_own) {
  *last_.mutable_revision() = revision;
  if (source != nullptr) {
    last_.set_home(source->home);
    last_.set_text(Sha256(source->text));
    last_.clear_files();
    for (const auto& [path, contents] : *source->files) {
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

void HistoryDisk::RemoveOld() {
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

}  // namespace guideway
