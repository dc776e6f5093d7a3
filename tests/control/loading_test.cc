#include "control/loading.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "tests/support/test_config.h"

namespace guideway {
namespace {

using testing::HasSubstr;

class LoadingTest : public testing::Test {
 protected:
  LoadingTest() {
    std::string name = testing::TempDir() + "loading_test.XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~LoadingTest() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
};

const char kBackends[] = "{ name: a, address: 10.0.0.1 }";

TEST_F(LoadingTest, SaysWhichFileItIsIn) {
  const std::string pipe = directory_ + "/guideway.yaml";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int writer = open(pipe.c_str(), O_RDWR);
  const auto loading =
      std::make_shared<Loading>(Loading::What{nullptr, std::nullopt, pipe, pipe}, absl::OkStatus());
  EXPECT_TRUE(loading->progress().reads) << "it may not get as far as that";
  EXPECT_EQ(loading->progress().file, pipe);
  const Loading::Progress before = loading->progress();
  std::thread thread([loading] { loading->Run(); });
  while (loading->progress().step < 2) std::this_thread::yield();
  EXPECT_TRUE(loading->progress().reads);
  EXPECT_EQ(loading->progress().file, pipe);
  EXPECT_FALSE(loading->progress() == before);
  const std::string text = ConfigText(ServiceText("web", 1, kBackends));
  ASSERT_EQ(write(writer, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  // What nobody has read when the last end is closed is gone.
  for (int unread = 1; unread > 0; std::this_thread::yield()) {
    ASSERT_EQ(ioctl(writer, FIONREAD, &unread), 0);
  }
  close(writer);
  thread.join();
  EXPECT_TRUE(loading->loaded.ok()) << loading->loaded.status();
  EXPECT_FALSE(loading->progress().reads);
}

TEST_F(LoadingTest, WhatMayReadNoFileSaysSoOfEach) {
  const auto load = [](const std::string& text) {
    Loading loading({nullptr, text, "new.yaml", "/etc/guideway.yaml"},
                    absl::UnavailableError("files are not read now"));
    loading.Run();
    return loading.loaded.ok() ? "ok" : std::string(loading.loaded.status().message());
  };
  EXPECT_EQ(load(ConfigText(ServiceText("web", 1, kBackends))), "ok");
  EXPECT_THAT(
      load(ConfigText(ServiceText("web", 1, kBackends)) + "access: { deny_files: [x.txt] }\n"),
      HasSubstr("files are not read now"));
  Loading file({nullptr, std::nullopt, "/etc/guideway.yaml", ""},
               absl::UnavailableError("files are not read now"));
  file.Run();
  EXPECT_THAT(std::string(file.loaded.status().message()),
              testing::AllOf(HasSubstr("/etc/guideway.yaml"), HasSubstr("files are not read now")));
}

}  // namespace
}  // namespace guideway
