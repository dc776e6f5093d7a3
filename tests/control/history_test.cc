#include "control/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "tests/support/fake_event_loop.h"
#include "tests/support/hanging.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

namespace fs = std::filesystem;

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

std::string Web(int weight) {
  return ConfigText(
      ServiceText("web", 1, absl::StrCat("{ name: a, address: 10.0.0.1, weight: ", weight, " }")));
}

class HistoryTest : public testing::Test {
 protected:
  HistoryTest() {
    std::string name = testing::TempDir() + "history_test.XXXXXX";
    directory_ = mkdtemp(name.data());
    state_ = directory_ + "/state";
    file_ = directory_ + "/guideway.yaml";
    Open();
  }
  ~HistoryTest() override {
    history_.reset();
    fs::remove_all(directory_);
  }

  // As after a restart.
  void Open(size_t max_revisions = History::kMaxRevisions) {
    history_.reset();
    history_ = std::make_unique<History>(state_, file_, max_revisions);
  }
  void WriteFile(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  std::string Home() { return fs::directory_iterator(state_)->path().string(); }
  std::string RecordPath(uint64_t number) {
    return absl::StrCat(Home(), "/revisions/", number, ".json");
  }
  std::vector<std::string> TextPaths() {
    std::vector<std::string> paths;
    for (const auto& entry : fs::directory_iterator(Home() + "/texts")) {
      paths.push_back(entry.path().string());
    }
    return paths;
  }
  std::string Warnings() { return absl::StrJoin(history_->warnings(), "\n"); }

  static std::shared_ptr<const ConfigSource> Source(const std::string& name,
                                                    const std::string& text,
                                                    FileContents files = {}) {
    auto source = std::make_shared<ConfigSource>();
    source->name = source->home = name;
    source->text = text;
    source->files = std::make_shared<const FileContents>(std::move(files));
    source->digest = DigestOf(source->text, *source->files);
    return source;
  }

  // Adds a revision and has it written.
  absl::Status Add(const std::string& how, std::shared_ptr<const ConfigSource> source,
                   const Overrides& overrides = {}, bool is_own = false) {
    history_->Attach(&loop_);
    api::Revision revision;
    revision.set_who("somebody");
    revision.set_how(how);
    revision.set_file(source == nullptr ? "new.yaml" : source->name);
    *revision.mutable_overrides() = ToApi(overrides);
    absl::Status status = absl::UnknownError("not done");
    history_->Add(revision, std::move(source), is_own, [&](absl::Status s) { status = s; });
    EXPECT_FALSE(status.ok()) << "on disk before it was written?";
    loop_.RunAll();
    return status;
  }
  // The file as the daemon was started with it.
  void AddStart() {
    auto loaded = LoadSourceFile(file_);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    ASSERT_EQ(Add("start", loaded->source, {}, true), absl::OkStatus());
  }

  Beginning Begin() {
    absl::StatusOr<Beginning> beginning = ChooseBeginning(history_.get(), file_);
    EXPECT_TRUE(beginning.ok()) << beginning.status().message();
    return beginning.ok() ? *std::move(beginning) : Beginning(LoadedConfig());
  }
  static uint32_t WeightOf(const Beginning& beginning) {
    return beginning.what.config.config.services(0).backends(0).weight();
  }

  FakeEventLoop loop_;
  std::string directory_, state_, file_;
  std::unique_ptr<History> history_;
};

TEST_F(HistoryTest, WhatWasAddedIsThereAfterARestart) {
  const Overrides overrides = {{"web/a", {.drained = true, .weight = 7}},
                               {"web/b", {.drained = false, .weight = 0}}};
  ASSERT_EQ(Add("apply", Source("new.yaml", "one", {{"/etc/deny", "10.0.0.0/8"}})),
            absl::OkStatus());
  ASSERT_EQ(Add("drain web/a", nullptr, overrides), absl::OkStatus());
  Open();
  EXPECT_THAT(history_->warnings(), IsEmpty());
  ASSERT_EQ(history_->revisions().size(), 2u);
  const api::Revision& last = history_->revisions().back();
  EXPECT_EQ(last.number(), 2u);
  EXPECT_EQ(last.who(), "somebody");
  EXPECT_EQ(last.how(), "drain web/a");
  EXPECT_EQ(last.file(), "new.yaml");
  EXPECT_EQ(last.time().substr(0, 2), "20");
  EXPECT_THAT(last.time(), testing::EndsWith("+00:00"));
  EXPECT_EQ(last.digest(), history_->revisions().front().digest());
  EXPECT_TRUE(FromApi(last.overrides()) == overrides);
  const auto source = history_->ReadNow(2);
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_EQ(source->text, "one");
  EXPECT_EQ(source->files->at("/etc/deny"), "10.0.0.0/8");
  ASSERT_EQ(Add("apply", Source("new.yaml", "two")), absl::OkStatus());
  EXPECT_EQ(history_->revisions().back().number(), 3u) << "numbers go on";
}

TEST_F(HistoryTest, EqualTextsAreThereOnceAndNobodyElseMayReadThem) {
  ASSERT_EQ(Add("apply", Source("new.yaml", "one", {{"key", "secret"}})), absl::OkStatus());
  ASSERT_EQ(Add("apply", Source("other.yaml", "one", {{"key", "secret"}})), absl::OkStatus());
  EXPECT_THAT(TextPaths(), SizeIs(2));
  for (const auto& entry : fs::recursive_directory_iterator(state_)) {
    EXPECT_EQ(entry.status().permissions() & fs::perms::mask,
              entry.is_directory() ? fs::perms::owner_all
                                   : fs::perms::owner_read | fs::perms::owner_write)
        << entry.path();
  }
}

TEST_F(HistoryTest, TheLastAreKeptAndTheirTexts) {
  EXPECT_EQ(History::kMaxRevisions, 1000u);
  const size_t kept = 10;
  Open(kept);
  for (size_t i = 1; i <= kept + 2; ++i) {
    ASSERT_EQ(Add("apply", Source("f", absl::StrCat(i))), absl::OkStatus());
  }
  EXPECT_EQ(history_->revisions().size(), kept);
  EXPECT_EQ(history_->revisions().front().number(), 3u);
  EXPECT_FALSE(fs::exists(RecordPath(2)));
  EXPECT_TRUE(fs::exists(RecordPath(3)));
  EXPECT_THAT(TextPaths(), SizeIs(kept));
  history_->Read(2, [](const auto& source) {
    EXPECT_EQ(source.status().message(), "there is no revision 2; there are 3 to 12");
  });
  Open(kept - 3);
  EXPECT_EQ(history_->revisions().front().number(), 6u);
  ASSERT_EQ(Add("apply", Source("f", "one more")), absl::OkStatus());
  EXPECT_FALSE(fs::exists(RecordPath(5)));
}

TEST_F(HistoryTest, RestartsAndDrainsPushNoConfigurationOut) {
  Open(3);
  ASSERT_EQ(Add("apply", Source("f", "one")), absl::OkStatus());
  ASSERT_EQ(Add("apply", Source("f", "two")), absl::OkStatus());
  for (int i = 0; i < 5; ++i) ASSERT_EQ(Add("start", Source("f", "two")), absl::OkStatus());
  for (int i = 0; i < 5; ++i) ASSERT_EQ(Add("drain web/a", nullptr), absl::OkStatus());
  const auto numbers = [&] {
    std::vector<uint64_t> numbers;
    for (const api::Revision& revision : history_->revisions())
      numbers.push_back(revision.number());
    return numbers;
  };
  EXPECT_EQ(numbers(), (std::vector<uint64_t>{1, 11, 12}));
  EXPECT_TRUE(fs::exists(RecordPath(1)));
  EXPECT_FALSE(fs::exists(RecordPath(2)));
  EXPECT_THAT(TextPaths(), SizeIs(2));
  Open(3);
  EXPECT_EQ(numbers(), (std::vector<uint64_t>{1, 11, 12})) << "the same on disk";
  EXPECT_EQ(history_->NoSuchRevision(5).message(),
            "there is no revision 5; there are 3, numbered 1 to 12 with gaps: `guideway history` "
            "lists them");
}

TEST_F(HistoryTest, ATextThatADaemonLeftWhenItWasKilledIsRemoved) {
  ASSERT_EQ(Add("apply", Source("f", "one")), absl::OkStatus());
  WriteFile(Home() + "/texts/" + Sha256("lost"), "lost");
  WriteFile(Home() + "/texts/.unfinished", "lo");
  Open();
  ASSERT_EQ(Add("start", Source("f", "one")), absl::OkStatus());
  EXPECT_FALSE(fs::exists(Home() + "/texts/" + Sha256("lost")));
  ASSERT_EQ(Add("apply", Source("f", "two")), absl::OkStatus());
  EXPECT_THAT(TextPaths(), SizeIs(2));
}

TEST_F(HistoryTest, TornAndHostileRecordsAreLeftOutByName) {
  for (int i = 1; i <= 6; ++i) {
    ASSERT_EQ(Add("apply", Source("f", absl::StrCat(i))), absl::OkStatus());
  }
  const std::string sound = [&] {
    std::ifstream in(RecordPath(1));
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  WriteFile(RecordPath(2), sound.substr(0, sound.size() / 2));
  WriteFile(RecordPath(3), "");
  WriteFile(RecordPath(4), sound);  // of another number
  std::string hostile = sound;
  hostile.replace(hostile.find(Sha256("1")), 64, "../../../../../../../../etc/passwd");
  WriteFile(RecordPath(5),
            absl::StrReplaceAll(hostile, {{"\"number\": \"1\"", "\"number\": \"5\""}}));
  fs::remove(RecordPath(6));
  fs::create_directory(RecordPath(6));
  WriteFile(Home() + "/revisions/07.json", sound);
  WriteFile(Home() + "/revisions/\x1b[2J.json", sound);
  fs::create_symlink("/dev/zero", RecordPath(8));
  ASSERT_EQ(mkfifo(RecordPath(9).c_str(), 0600), 0);
  Open();
  EXPECT_EQ(history_->revisions().size(), 1u);
  EXPECT_EQ(history_->revisions().front().number(), 1u);
  for (const char* name : {"/2.json", "/3.json", "/4.json", "/5.json", "/6.json", "/07.json",
                           "/?[2J.json", "/8.json", "/9.json"}) {
    EXPECT_THAT(Warnings(), HasSubstr(name));
  }
  EXPECT_THAT(Warnings(), Not(HasSubstr("\x1b")));
  ASSERT_EQ(Add("apply", Source("f", "next")), absl::OkStatus());
  EXPECT_EQ(history_->revisions().back().number(), 10u) << "over those that cannot be read";
  EXPECT_TRUE(fs::exists(Home() + "/texts/" + Sha256("2")))
      << "may be wanted when its record is mended";
}

TEST_F(HistoryTest, OfManyBrokenFilesSomeAreNamed) {
  ASSERT_EQ(Add("apply", Source("f", "one")), absl::OkStatus());
  for (int i = 0; i < 30; ++i) WriteFile(absl::StrCat(Home(), "/revisions/x", i), "");
  Open();
  EXPECT_THAT(history_->warnings(), SizeIs(11));
  EXPECT_THAT(Warnings(), HasSubstr("and 20 more files in "));
}

TEST_F(HistoryTest, ATornTextIsNotedAndReplaced) {
  ASSERT_EQ(Add("apply", Source("f", "one")), absl::OkStatus());
  const std::string path = Home() + "/texts/" + Sha256("one");
  WriteFile(path, "on");
  const auto torn = history_->ReadNow(1);
  EXPECT_THAT(std::string(torn.status().message()),
              AllOf(HasSubstr(path), HasSubstr("does not hold what was written")));
  ASSERT_EQ(Add("apply", Source("f", "one")), absl::OkStatus());
  EXPECT_TRUE(history_->ReadNow(1).ok());
}

TEST_F(HistoryTest, WhatCannotBeWrittenIsSaidAndTriedAgain) {
  ASSERT_EQ(Add("apply", Source("f", "one")), absl::OkStatus());
  // In place of a disk that is full.
  const std::string texts = Home() + "/texts";
  fs::rename(texts, texts + ".away");
  WriteFile(texts, "");
  const absl::Status status = Add("apply", Source("f", "two"));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("revision 2 is in force and not kept"),
                                                   HasSubstr(texts), HasSubstr("Not a directory")));
  EXPECT_EQ(Warnings(), status.message());
  EXPECT_EQ(history_->revisions().size(), 2u) << "it was in force all the same";
  fs::remove(texts);
  fs::rename(texts + ".away", texts);
  ASSERT_EQ(Add("drain web/a", nullptr), absl::OkStatus()) << "with the configuration it is about";
  EXPECT_EQ(Warnings(), "");
  Open();
  const auto source = history_->ReadNow(3);
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_EQ(source->text, "two");
}

TEST_F(HistoryTest, NobodyWaitsForADiskThatDoesNotAnswer) {
  ASSERT_EQ(Add("start", Source("a", "one")), absl::OkStatus());
  std::vector<std::string> told;
  const auto tell = [&](const absl::Status& status) {
    told.push_back(status.ok() ? "ok" : std::string(status.message()));
  };
  const auto not_kept = [](int revision) {
    return StartsWith(absl::StrCat("history: revision ", revision,
                                   " is in force and not kept yet: the disk has not answered for "
                                   "10s"));
  };
  const auto add = [&] { history_->Add(api::Revision(), nullptr, false, tell); };
  add();
  loop_.AdvanceLoop(absl::Seconds(6));
  add();
  loop_.AdvanceLoop(absl::Seconds(3));
  EXPECT_THAT(told, IsEmpty());
  loop_.AdvanceLoop(absl::Seconds(1));
  EXPECT_THAT(told, ElementsAre(not_kept(2)));
  EXPECT_THAT(Warnings(), not_kept(2));
  loop_.AdvanceLoop(absl::Seconds(6));
  EXPECT_THAT(told, ElementsAre(not_kept(2), not_kept(3)));
  // Now it is known.
  add();
  history_->AfterWrites(tell);
  EXPECT_THAT(told, ElementsAre(not_kept(2), not_kept(3), not_kept(4), not_kept(4)));
  absl::Status read;
  history_->Read(1, [&](const auto& source) { read = source.status(); });
  EXPECT_EQ(read.code(), absl::StatusCode::kDeadlineExceeded) << read;
  EXPECT_EQ(loop_.helper_work(), 3u) << "what is added waits for the disk, nothing else does";
  // It answers again.
  told.clear();
  loop_.RunHelper();
  EXPECT_THAT(Warnings(), not_kept(4)) << "the first is not the last";
  loop_.RunAll();
  EXPECT_EQ(Warnings(), "");
  EXPECT_EQ(history_->kept(), absl::OkStatus());
  EXPECT_THAT(told, IsEmpty()) << "told once";
  add();
  EXPECT_THAT(told, IsEmpty());
  loop_.RunAll();
  EXPECT_THAT(told, ElementsAre("ok"));
  loop_.AdvanceLoop(absl::Minutes(1));
  EXPECT_THAT(told, ElementsAre("ok"));
  Open();
  EXPECT_THAT(history_->revisions(), SizeIs(5));
}

TEST_F(HistoryTest, WhatWaitsForADiskThatHangsIsBounded) {
  ASSERT_EQ(Add("start", Source("a", "one")), absl::OkStatus());
  std::vector<absl::Status> told;
  const auto add = [&](std::shared_ptr<const ConfigSource> source) {
    history_->Add(api::Revision(), std::move(source), false,
                  [&](const absl::Status& status) { told.push_back(status); });
  };
  for (size_t i = 0; i < History::kMaxWrites; ++i) add(nullptr);
  EXPECT_THAT(told, IsEmpty());
  loop_.AdvanceLoop(History::kPatience);
  told.clear();
  add(Source("b", "two"));
  add(Source("c", "three"));
  add(nullptr);
  EXPECT_THAT(told, SizeIs(3));
  EXPECT_EQ(loop_.helper_work(), History::kMaxWrites);
  const uint64_t last = history_->revisions().back().number();
  EXPECT_EQ(last, History::kMaxWrites + 4) << "numbers go on";
  EXPECT_THAT(Warnings(), StartsWith(absl::StrCat("history: revision ", last, " is in force")));
  loop_.RunAll();
  EXPECT_EQ(Warnings(), "");
  EXPECT_THAT(history_->revisions(), SizeIs(History::kMaxWrites + 2));
  Open();
  EXPECT_THAT(history_->revisions(), SizeIs(History::kMaxWrites + 2));
  EXPECT_EQ(history_->revisions().back().number(), last);
  EXPECT_EQ(history_->ReadNow(last)->text, "three");
}

// A stop: nothing runs on the loop any more, and what is queued is written all the same.
TEST_F(HistoryTest, AtTheEndWhatIsQueuedIsWritten) {
  auto io = std::make_unique<boost::asio::io_context>();
  std::unique_ptr<EventLoop> disk = NewEventLoop(*io);
  history_->Attach(disk.get());
  EXPECT_EQ(history_->Finish(absl::ZeroDuration()), absl::OkStatus()) << "nothing was added";
  std::promise<void> goes_on;
  disk->RunOnHelper([&] { goes_on.get_future().wait(); }, [] {});
  for (int i = 0; i < 3; ++i) {
    history_->Add(api::Revision(), Source("new.yaml", absl::StrCat("text ", i)), false,
                  [](const absl::Status&) { ADD_FAILURE() << "the loop does not run"; });
  }
  const absl::Status hangs = history_->Finish(absl::Milliseconds(1));
  EXPECT_EQ(hangs.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(hangs.message(),
            "history: revisions 1 to 3 not on disk, so the next start does not find them: the disk "
            "has not answered for 1ms");
  goes_on.set_value();
  EXPECT_EQ(history_->Finish(absl::Minutes(1)), absl::OkStatus());
  history_.reset();
  disk.reset();
  io.reset();  // with the pieces of work that came back
  Open();
  EXPECT_EQ(history_->revisions().size(), 3u);
}

TEST_F(HistoryTest, AtTheEndItSaysWhatCouldNotBeWritten) {
  ASSERT_EQ(Add("start", Source("a", "one")), absl::OkStatus());
  boost::asio::io_context io;
  const std::unique_ptr<EventLoop> disk = NewEventLoop(io);
  history_->Attach(disk.get());
  fs::remove_all(state_);
  WriteFile(state_, "in the way");
  history_->Add(api::Revision(), nullptr, false, [](const absl::Status&) {});
  const absl::Status failed = history_->Finish(absl::Minutes(1));
  EXPECT_EQ(failed.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failed.message()),
              AllOf(StartsWith("history: revision 2 not on disk"), HasSubstr("cannot ")));
  history_.reset();  // before its loop
}

TEST_F(HistoryTest, AtTheEndItSaysThatTheDiskHangsThoughAllIsThere) {
  boost::asio::io_context io;
  std::promise<void> answers;
  const std::unique_ptr<EventLoop> disk = NewEventLoop(io);
  history_->Attach(disk.get());
  history_->Add(api::Revision(), Source("a", "one"), false, [](const absl::Status&) {});
  ASSERT_EQ(history_->Finish(absl::Minutes(1)), absl::OkStatus());
  disk->RunOnHelper([&] { answers.get_future().wait(); }, [] {});
  EXPECT_EQ(history_->Finish(absl::Milliseconds(1)).code(), absl::StatusCode::kDeadlineExceeded);
  answers.set_value();
  EXPECT_EQ(history_->Finish(absl::Minutes(1)), absl::OkStatus());
  history_.reset();  // before its loop
}

TEST_F(HistoryTest, AStateDirectoryThatIsAFile) {
  history_.reset();
  fs::remove_all(state_);
  WriteFile(state_, "");
  WriteFile(file_, Web(1));
  history_ = std::make_unique<History>(state_, file_);
  EXPECT_EQ(WeightOf(Begin()), 1u);
  EXPECT_THAT(std::string(Add("start", Source("f", "one")).message()), HasSubstr(state_));
}

// The disk was missing at the start, and is mounted later.
TEST_F(HistoryTest, RevisionsThatWereNotReadAreLeftAlone) {
  ASSERT_EQ(Add("apply", Source("new.yaml", "one")), absl::OkStatus());
  ASSERT_EQ(Add("apply", Source("new.yaml", "two")), absl::OkStatus());
  fs::rename(state_, directory_ + "/away");
  WriteFile(state_, "");
  Open();
  EXPECT_FALSE(Add("drain web/a", Source("new.yaml", "three")).ok());
  fs::remove(state_);
  fs::rename(directory_ + "/away", state_);
  EXPECT_THAT(Add("drain web/b", nullptr).message(), HasSubstr("a restart would not find it"));
  EXPECT_THAT(Warnings(), HasSubstr("has revisions that this guidewayd has not read"));
  Open();
  ASSERT_EQ(history_->revisions().size(), 2u);
  EXPECT_EQ(history_->ReadNow(1)->text, "one");
  EXPECT_EQ(history_->ReadNow(2)->text, "two");
  EXPECT_EQ(Add("apply", Source("new.yaml", "four")), absl::OkStatus());
  EXPECT_EQ(history_->revisions().back().number(), 3u);
}

TEST_F(HistoryTest, ADirectoryThatWasAwayGoesOn) {
  ASSERT_EQ(Add("apply", Source("new.yaml", "one")), absl::OkStatus());
  const std::string revisions = Home() + "/revisions";
  fs::rename(revisions, directory_ + "/away");
  WriteFile(revisions, "in the way");
  EXPECT_FALSE(Add("drain web/a", nullptr).ok());
  fs::remove(revisions);
  fs::rename(directory_ + "/away", revisions);
  EXPECT_EQ(Add("drain web/b", nullptr), absl::OkStatus());
  Open();
  EXPECT_THAT(history_->revisions(), SizeIs(2));
}

// Whoever could not read them does not know their numbers.
TEST_F(HistoryTest, ADirectoryThatCannotBeReadIsNamedAndLeftAlone) {
  ASSERT_EQ(Add("apply", Source("new.yaml", "one")), absl::OkStatus());
  fs::path revisions;
  for (const auto& entry : fs::recursive_directory_iterator(state_)) {
    if (entry.path().filename() == "revisions") revisions = entry.path();
    ASSERT_EQ(chown(entry.path().c_str(), 65534, 65534), 0) << "these tests are root's";
  }
  fs::permissions(directory_, fs::perms(0755));
  fs::permissions(revisions, fs::perms::none);
  ASSERT_EQ(seteuid(65534), 0);  // root may read everything
  Open();
  const absl::Status kept = Add("start", Source("new.yaml", "two"));
  const api::HistoryState state = history_->State();
  ASSERT_EQ(seteuid(0), 0);
  const std::string why = absl::StrCat("Permission denied (cannot read ", revisions.string(), ")");
  ASSERT_EQ(state.warnings_size(), 1);
  EXPECT_THAT(state.warnings(0), HasSubstr(absl::StrCat("no revision could be read: ", why)));
  EXPECT_FALSE(kept.ok());
  EXPECT_EQ(state.not_kept_why(), why);
  fs::permissions(revisions, fs::perms::owner_all);
  Open();
  ASSERT_EQ(history_->revisions().size(), 1u);
  EXPECT_EQ(history_->ReadNow(1)->text, "one");
}

// Once it is there and nothing is in it, it is this daemon's.
TEST_F(HistoryTest, ADirectoryThatComesLateIsUsed) {
  WriteFile(directory_ + "/file", "");
  state_ = directory_ + "/file";
  Open();
  EXPECT_FALSE(Add("apply", Source("new.yaml", "one")).ok());
  fs::remove(state_);
  EXPECT_EQ(Add("drain web/a", nullptr), absl::OkStatus());
  EXPECT_THAT(history_->warnings(), IsEmpty());
  Open();
  EXPECT_EQ(history_->ReadNow(2)->text, "one");
}

TEST_F(HistoryTest, ASecondDaemonLeavesItAlone) {
  History second(state_, file_);
  EXPECT_THAT(absl::StrJoin(second.warnings(), ""), HasSubstr("another guidewayd uses"));
  absl::Status kept;
  second.Add(api::Revision(), nullptr, false, [&](const absl::Status& status) { kept = status; });
  EXPECT_THAT(std::string(kept.message()), HasSubstr("another guidewayd uses"));
  EXPECT_THAT(second.warnings(), testing::SizeIs(1));
  History other(state_, file_ + ".other");
  EXPECT_THAT(other.warnings(), IsEmpty()) << "another file's";
}

TEST_F(HistoryTest, WithoutItsDiskItNamesTheDirectoryThatItWouldHave) {
  const std::string there = history_->State().directory();
  EXPECT_THAT(there, StartsWith(state_ + "/"));
  const History without(state_, file_, "history: the disk is away");
  EXPECT_EQ(without.State().directory(), there);
  EXPECT_EQ(without.State().not_kept_why(), "the disk is away");
  EXPECT_THAT(without.warnings(), testing::ElementsAre("history: the disk is away"));
}

TEST_F(HistoryTest, ItKnowsWhoDidWhatByHand) {
  const auto who = [](const api::Author* author) {
    return author == nullptr ? "-" : author->who();
  };
  const auto add = [&](const std::string& by, const Overrides& overrides) {
    api::Revision revision;
    revision.set_who(by);
    *revision.mutable_overrides() = ToApi(overrides);
    history_->Attach(&loop_);
    history_->Add(revision, Source("f", "one"), false, [](const absl::Status&) {});
    loop_.RunAll();
  };
  add("start", {});
  add("ann", {{"web/a", {.drained = true}}});
  add("bob", {{"web/a", {.drained = true, .weight = 5}}});
  add("cid", {{"web/a", {.drained = true, .weight = 5}}, {"web/b", {.drained = true}}});
  for (const bool after_a_restart : {false, true}) {
    if (after_a_restart) Open();
    EXPECT_EQ(who(history_->authors().OfDrain("web/a")), "ann");
    EXPECT_EQ(who(history_->authors().OfWeight("web/a")), "bob");
    EXPECT_EQ(who(history_->authors().OfDrain("web/b")), "cid");
    EXPECT_EQ(who(history_->authors().OfWeight("web/b")), "-");
    EXPECT_EQ(who(history_->authors().OfDrain("web/c")), "-");
  }
  EXPECT_EQ(history_->authors().OfDrain("web/a")->time(), history_->revisions()[1].time());
  add("dan", {{"web/a", {.weight = 6}}});
  EXPECT_EQ(who(history_->authors().OfDrain("web/a")), "-");
  EXPECT_EQ(who(history_->authors().OfWeight("web/a")), "dan");
  // What was so before the first that is left nobody knows.
  fs::remove(RecordPath(1));
  fs::remove(RecordPath(2));
  fs::remove(RecordPath(5));
  Open();
  EXPECT_EQ(who(history_->authors().OfDrain("web/a")), "-");
  EXPECT_EQ(who(history_->authors().OfDrain("web/b")), "cid");
  // Nor who did what was done in one that is missing.
  add("eve", {{"web/b", {.drained = true}}, {"web/c", {.drained = true}}});
  const uint64_t eves = history_->revisions().back().number();
  add("fay", {{"web/b", {.drained = true}}, {"web/c", {.drained = true}}});
  fs::remove(RecordPath(eves));
  Open();
  EXPECT_EQ(who(history_->authors().OfDrain("web/b")), "cid");
  EXPECT_EQ(who(history_->authors().OfDrain("web/c")), "-") << "not fay";
}

TEST_F(HistoryTest, ReadingAnswersOnTheLoop) {
  ASSERT_EQ(Add("apply", Source("f", "one")), absl::OkStatus());
  std::string text;
  history_->Read(1, [&](const absl::StatusOr<ConfigSource>& source) { text = source->text; });
  EXPECT_EQ(text, "");
  loop_.RunAll();
  EXPECT_EQ(text, "one");
}

// --- What to start with --------------------------------------------------------------------------

TEST_F(HistoryTest, TheFirstStartIsTheFiles) {
  WriteFile(file_, Web(1));
  const Beginning beginning = Begin();
  EXPECT_EQ(WeightOf(beginning), 1u);
  EXPECT_EQ(beginning.from, "file");
  EXPECT_EQ(beginning.applied_file, "");
  EXPECT_EQ(beginning.config_error, "");
  EXPECT_EQ(beginning.what.config.hash_seed, 7u);
}

TEST_F(HistoryTest, ABrokenFileWithoutAHistoryIsRefused) {
  EXPECT_THAT(std::string(ChooseBeginning(history_.get(), file_).status().message()),
              HasSubstr("cannot read the configuration file"));
  WriteFile(file_, Web(1) + "bogus: 1\n");
  EXPECT_THAT(std::string(ChooseBeginning(history_.get(), file_).status().message()),
              AllOf(StartsWith(file_), HasSubstr("bogus")));
}

TEST_F(HistoryTest, AnUnchangedFileYieldsToWhatWasApplied) {
  WriteFile(file_, Web(1));
  AddStart();
  ASSERT_EQ(Add("apply", Source("new.yaml", Web(2))), absl::OkStatus());
  ASSERT_EQ(Add("drain web/a", nullptr, {{"web/a", {.drained = true, .weight = {}}}}),
            absl::OkStatus());
  Open();
  const Beginning beginning = Begin();
  EXPECT_EQ(WeightOf(beginning), 2u);
  EXPECT_EQ(beginning.from, "applied");
  EXPECT_EQ(beginning.applied_file, "new.yaml");
  EXPECT_EQ(beginning.config_error, "");
  EXPECT_TRUE(OverrideOf(beginning.overrides, "web/a").drained);
}

TEST_F(HistoryTest, AFileThatDoesNotAnswerCountsAsItWas) {
  WriteFile(file_, Web(1));
  AddStart();
  {
    Hanging hanging;
    for (size_t i = 0; i < kMaxThreadsApart; ++i) RunDetached(hanging.work());
    ASSERT_EQ(Add("apply", Source("new.yaml", Web(2))), absl::OkStatus());
  }
  Open();
  EXPECT_EQ(WeightOf(Begin()), 2u);
}

TEST_F(HistoryTest, AChangedFileWins) {
  WriteFile(file_, Web(1));
  AddStart();
  ASSERT_EQ(Add("apply", Source("new.yaml", Web(2))), absl::OkStatus());
  WriteFile(file_, Web(3));
  ASSERT_EQ(Add("drain web/a", nullptr, {{"web/a", {.drained = true, .weight = {}}}}),
            absl::OkStatus())
      << "an override is not about the file";
  Open();
  const Beginning beginning = Begin();
  EXPECT_EQ(WeightOf(beginning), 3u);
  EXPECT_EQ(beginning.from, "file");
  EXPECT_TRUE(OverrideOf(beginning.overrides, "web/a").drained) << "kept in all cases";
}

TEST_F(HistoryTest, AFileThatWasAppliedAndRolledBackStaysRolledBack) {
  WriteFile(file_, Web(1));
  AddStart();
  WriteFile(file_, Web(2));
  ASSERT_EQ(Add("apply", Source(file_, Web(2))), absl::OkStatus());
  ASSERT_EQ(Add("rollback to 1", Source(file_, Web(1))), absl::OkStatus());
  Open();
  EXPECT_EQ(WeightOf(Begin()), 1u);
  EXPECT_EQ(Begin().from, "applied");
}

TEST_F(HistoryTest, WhatWasAppliedAndIsTheFileNowIsTheFile) {
  WriteFile(file_, Web(1));
  AddStart();
  WriteFile(file_, Web(2));
  ASSERT_EQ(Add("apply", Source("copy.yaml", Web(2))), absl::OkStatus());
  Open();
  EXPECT_EQ(WeightOf(Begin()), 2u);
  EXPECT_EQ(Begin().from, "file");
}

TEST_F(HistoryTest, ABrokenFileYieldsToTheLastRevision) {
  WriteFile(file_, Web(1));
  AddStart();
  for (const std::string& broken : {Web(3) + "bogus: 1\n", std::string("{"), std::string()}) {
    WriteFile(file_, broken);
    Open();
    const Beginning beginning = Begin();
    EXPECT_EQ(WeightOf(beginning), 1u);
    EXPECT_EQ(beginning.from, "last revision");
    EXPECT_EQ(beginning.applied_file, file_);
    EXPECT_THAT(beginning.config_error, HasSubstr(file_ + ":"));
  }
  fs::remove(file_);
  Open();
  EXPECT_THAT(Begin().config_error, HasSubstr("No such file"));
  // What started that way goes on; a file that is mended wins.
  ASSERT_EQ(Add("start", Source(file_, Web(1))), absl::OkStatus());
  WriteFile(file_, Web(1));
  Open();
  EXPECT_EQ(Begin().from, "file");
}

TEST_F(HistoryTest, AFileThatThisHostCannotDoYieldsToTheLastRevision) {
  WriteFile(file_, Web(1));
  AddStart();
  ASSERT_EQ(Add("apply", Source("new.yaml", Web(2))), absl::OkStatus());
  Open();
  WriteFile(file_, Web(3));
  std::vector<uint32_t> asked;
  const Suits not_three = [&](const LoadedConfig& loaded) {
    asked.push_back(loaded.config.services(0).backends(0).weight());
    return asked.back() == 3 ? absl::FailedPreconditionError("f:1:1: no such core")
                             : absl::OkStatus();
  };
  const absl::StatusOr<Beginning> beginning = ChooseBeginning(history_.get(), file_, not_three);
  ASSERT_TRUE(beginning.ok()) << beginning.status();
  EXPECT_EQ(WeightOf(*beginning), 2u);
  EXPECT_EQ(beginning->from, "last revision");
  EXPECT_EQ(beginning->config_error, "f:1:1: no such core");
  EXPECT_THAT(asked, ElementsAre(3u, 2u));

  const auto neither = [](const LoadedConfig& loaded) {
    return absl::FailedPreconditionError(
        absl::StrCat("not ", loaded.config.services(0).backends(0).weight()));
  };
  EXPECT_EQ(std::string(ChooseBeginning(history_.get(), file_, neither).status().message()),
            "not 3\nthe last revision, 2, cannot be served in its place: not 2");
}

TEST_F(HistoryTest, WhatIsTheFileItselfIsTriedOnce) {
  WriteFile(file_, Web(1));
  AddStart();
  Open();
  int asked = 0;
  const auto refuse = [&](const LoadedConfig&) {
    ++asked;
    return absl::FailedPreconditionError("no");
  };
  EXPECT_EQ(std::string(ChooseBeginning(history_.get(), file_, refuse).status().message()), "no");
  EXPECT_EQ(asked, 1);
}

TEST_F(HistoryTest, AFileThatYieldedAndIsAsItWasHasNotChanged) {
  const auto refuse_three = [](const LoadedConfig& loaded) {
    return loaded.config.services(0).backends(0).weight() == 3 ? absl::FailedPreconditionError("no")
                                                               : absl::OkStatus();
  };
  for (const std::string& bad : {Web(3), Web(1) + "bogus: 1\n"}) {
    WriteFile(file_, Web(1));
    AddStart();
    ASSERT_EQ(Add("apply", Source("new.yaml", Web(2))), absl::OkStatus());
    Open();
    WriteFile(file_, bad);
    absl::StatusOr<Beginning> beginning = ChooseBeginning(history_.get(), file_, refuse_three);
    ASSERT_TRUE(beginning.ok()) << beginning.status();
    ASSERT_EQ(Add("start", beginning->what.source), absl::OkStatus());

    WriteFile(file_, Web(1));
    Open();
    EXPECT_EQ(WeightOf(Begin()), 2u) << "what was applied later";
    WriteFile(file_, bad);
    Open();
    beginning = ChooseBeginning(history_.get(), file_);
    ASSERT_TRUE(beginning.ok()) << beginning.status();
    EXPECT_EQ(WeightOf(*beginning), bad == Web(3) ? 3u : 2u) << "mended on this host";
  }
}

TEST_F(HistoryTest, ContentsOfNamedFilesBelongToTheRevision) {
  const std::string with_deny = "access: { deny_files: [deny.txt] }\n" + Web(1);
  WriteFile(file_, with_deny);
  WriteFile(directory_ + "/deny.txt", "192.0.2.0/24\n");
  AddStart();
  ASSERT_EQ(Add("apply", LoadSource("new.yaml", with_deny + "# applied\n", file_)->source),
            absl::OkStatus());
  const auto denies = [](const Beginning& beginning, const char* address) {
    return beginning.what.config.access->Find(IpAddress::Parse(address).value()) ==
           static_cast<uint32_t>(Access::kDeny);
  };
  // The same as when it was applied: that is in force.
  Open();
  EXPECT_EQ(Begin().from, "applied");
  // Another list: the file is another.
  WriteFile(directory_ + "/deny.txt", "203.0.113.0/24\n");
  Open();
  EXPECT_EQ(Begin().from, "file");
  EXPECT_TRUE(denies(Begin(), "203.0.113.1"));
  EXPECT_FALSE(denies(Begin(), "192.0.2.1"));
  // None: the last revision, with the list that it had.
  fs::remove(directory_ + "/deny.txt");
  Open();
  EXPECT_EQ(Begin().from, "last revision");
  EXPECT_THAT(Begin().config_error, HasSubstr("deny.txt"));
  EXPECT_TRUE(denies(Begin(), "192.0.2.1"));
}

TEST_F(HistoryTest, AHashSeedOfAFileBelongsToTheRevision) {
  const std::string text = absl::StrReplaceAll(Web(1), {{"hash_seed: 7", "hash_seed_file: seed"}});
  WriteFile(file_, text);
  WriteFile(directory_ + "/seed", "77\n");
  AddStart();
  fs::remove(directory_ + "/seed");
  Open();
  EXPECT_EQ(Begin().what.config.hash_seed, 77u);
}

TEST_F(HistoryTest, ARevisionThatCannotBeReadYieldsToTheOneBefore) {
  WriteFile(file_, Web(1));
  AddStart();
  ASSERT_EQ(Add("apply", Source("new.yaml", Web(2))), absl::OkStatus());
  ASSERT_EQ(Add("apply", Source("bad.yaml", "no configuration any more")), absl::OkStatus());
  ASSERT_EQ(Add("apply", Source("newer.yaml", Web(4))), absl::OkStatus());
  fs::remove(Home() + "/texts/" + Sha256(Web(4)));
  WriteFile(file_, "broken");
  Open();
  const Beginning beginning = Begin();
  EXPECT_EQ(WeightOf(beginning), 2u);
  EXPECT_EQ(beginning.applied_file, "new.yaml");
  EXPECT_THAT(Warnings(), AllOf(HasSubstr("revision 4 cannot be put in force again"),
                                HasSubstr("revision 3 cannot be put in force again")));
}

}  // namespace
}  // namespace guideway
