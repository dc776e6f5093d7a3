#include "control/loader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "control/may_hang.h"
#include "tests/support/fake_event_loop.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

const char kBackends[] = "{ name: a, address: 10.0.0.1 }";

class LoaderTest : public testing::Test {
 protected:
  LoaderTest() {
    std::string name = testing::TempDir() + "loader_test.XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~LoaderTest() override { std::filesystem::remove_all(directory_); }

  // "ok" or the error, once it is there.
  void Load(WhatToLoad what) {
    loaded_ = std::nullopt;
    loader_.Load(std::move(what), [this](absl::StatusOr<LoadedSource> loaded) {
      loaded_ = loaded.ok() ? "ok" : std::string(loaded.status().message());
    });
  }
  std::string LoadNow(WhatToLoad what) {
    Load(std::move(what));
    loop_.RunAll();
    return loaded_.value_or("nothing yet");
  }

  std::string directory_;
  FakeEventLoop loop_;
  Loader loader_{&loop_};
  std::optional<std::string> loaded_;
};

// By this process.
int TimesOpen(const std::string& path) {
  int times = 0;
  for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code e;  // what was closed since
    times += std::filesystem::read_symlink(fd, e) == path;
  }
  return times;
}

WhatToLoad Text(std::string text) { return {nullptr, std::move(text), "new.yaml", "/etc/g.yaml"}; }

TEST_F(LoaderTest, GivesUpTheFileThatItIsIn) {
  // A pipe that somebody has open and writes nothing to.
  const std::string pipe = directory_ + "/guideway.yaml";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  Load({nullptr, std::nullopt, pipe, pipe});
  loop_.AdvanceLoop(absl::Seconds(20));  // before the thread has got as far as to begin
  const int writer = open(pipe.c_str(), O_RDWR);
  std::thread thread(loop_.TakeWork());
  while (TimesOpen(pipe) < 2) std::this_thread::yield();
  loop_.AdvanceLoop(absl::Seconds(29));
  EXPECT_EQ(loaded_, std::nullopt) << "it has got on since";
  loop_.AdvanceLoop(absl::Seconds(6));
  EXPECT_THAT(loaded_.value_or("nothing yet"),
              StartsWith(absl::StrCat("cannot read ", pipe, ": nothing has come of it for 30s")));
  close(writer);
  thread.join();
  EXPECT_EQ(LoadNow(Text(ConfigText(ServiceText("web", 1, kBackends)))), "ok");
}

TEST_F(LoaderTest, WhenTooManyHangNoFileIsRead) {
  for (size_t i = 0; i < kMaxThreadsApart; ++i) loop_.RunApart([] {}, [] {});
  const std::string good = ConfigText(ServiceText("web", 1, kBackends));
  EXPECT_EQ(LoadNow(Text(good)), "ok") << "it names none";
  EXPECT_THAT(LoadNow(Text(good + "access: { deny_files: [x.txt] }\n")),
              HasSubstr("it is not read while"));
  EXPECT_THAT(LoadNow({nullptr, std::nullopt, "/etc/guideway.yaml", ""}),
              testing::AllOf(StartsWith("cannot read the configuration file /etc/guideway.yaml: "),
                             HasSubstr("it is not read while")));
}

TEST_F(LoaderTest, ForgetsWhatItWasAtWhenItGoes) {
  {
    Loader other(&loop_);
    other.Load(Text(""), [](const auto&) { ADD_FAILURE() << "nobody waits for it"; });
  }
  loop_.AdvanceLoop(absl::Minutes(2));
}

}  // namespace
}  // namespace guideway
