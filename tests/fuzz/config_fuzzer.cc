// Any bytes as a configuration and as the files that it names. What config.h promises must hold:
// whatever comes ends in a LoadedConfig or in errors that each have a place in one of the files; a
// configuration prints as one that loads again and is equal; and Compile takes it or says why not.
//
// The input is the configuration; what is behind bytes 0xff, which UTF-8 does not have, are files.
#include <glog/logging.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "control/compile.h"
#include "control/config/config.h"
#include "tests/fuzz/check.h"

namespace guideway {
namespace {

constexpr char kName[] = "conf";

struct Files {
  std::string config;
  std::vector<std::string> others;
  std::vector<std::string> read;  // paths

  // Which of them a path means depends on the path alone.
  size_t IndexOf(const std::string& path) const {
    uint32_t hash = 0;
    for (unsigned char c : path) hash = hash * 31 + c;
    return hash % (others.size() + 1);
  }
  FileReader Reader() {
    return [this](const std::string& path) -> absl::StatusOr<std::string> {
      read.push_back(path);
      const size_t i = IndexOf(path);
      if (i == others.size()) return absl::NotFoundError("No such file or directory");
      return others[i];
    };
  }
};

size_t Characters(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// «NAME:LINE:COLUMN: …», and the place is in the text.
bool IsPlaceIn(absl::string_view line, absl::string_view name, absl::string_view text) {
  if (!absl::ConsumePrefix(&line, absl::StrCat(name, ":"))) return false;
  const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
  uint64_t row = 0, column = 0;
  if (parts.size() < 3 || !absl::SimpleAtoi(parts[0], &row) ||
      !absl::SimpleAtoi(parts[1], &column) || parts[2].size() < 2) {
    return false;
  }
  const std::vector<absl::string_view> rows = absl::StrSplit(text, '\n');
  // At most at the line's end, which is a character of its own; an empty file has a first column.
  return row >= 1 && row <= rows.size() && column >= 1 &&
         column <= std::max<size_t>(rows[row - 1].size(), Characters(rows[row - 1])) + 1;
}

void CheckErrors(absl::string_view message, const Files& files) {
  CHECK_THAT(!message.empty());
  for (absl::string_view line : absl::StrSplit(message, '\n')) {
    bool has_place = IsPlaceIn(line, kName, files.config);
    for (const std::string& path : files.read) {
      if (has_place) break;
      const size_t i = files.IndexOf(path);
      has_place = i < files.others.size() && IsPlaceIn(line, path, files.others[i]);
    }
    if (!has_place) std::fprintf(stderr, "no place: %s\n", std::string(line).c_str());
    CHECK_THAT(has_place);
  }
}

// Tables of this size are no test of what the text says.
bool IsLarge(const config::Config& config) {
  uint64_t slots = 0;
  for (const config::Service& service : config.services()) {
    slots += TableSize(service) * std::max(1, service.regions_size());
    slots += 1000 * static_cast<uint64_t>(service.backends_size());
  }
  return slots > 200'000;
}

void TryCompile(LoadedConfig loaded) {
  if (IsLarge(loaded.config)) return;
  std::vector<InterfaceStatus> interfaces;
  for (const config::Interface& interface : loaded.config.interfaces()) {
    interfaces.push_back({.name = interface.name(), .mtu = 1500});
  }
  CompileInput input;
  BackendId id = 0;
  for (const config::Service& service : loaded.config.services()) {
    ServiceFacts& facts = input.services.emplace_back();
    facts.id = static_cast<ServiceId>(input.services.size() - 1);
    for (int i = 0; i < service.backends_size(); ++i) {
      facts.backends.push_back({id, id % 3 == 2 ? BackendState::kDown : BackendState::kUp});
      ++id;
    }
  }
  input.routes = StaticRoutes(loaded.config, interfaces);
  input.loaded = std::make_shared<const LoadedConfig>(std::move(loaded));
  const auto snapshot = Compile(input);
  if (!snapshot.ok()) {
    CHECK_THAT(absl::IsInvalidArgument(snapshot.status()) && !snapshot.status().message().empty());
    return;
  }
  CHECK_THAT((*snapshot)->services().size() == input.services.size());
}

void Try(Files files) {
  auto loaded = LoadConfig(kName, files.config, files.Reader());
  if (!loaded.ok()) {
    CHECK_THAT(absl::IsInvalidArgument(loaded.status()));
    return CheckErrors(loaded.status().message(), files);
  }
  for (const std::string& line : loaded->warnings) CheckErrors(line, files);
  const std::string text = RenderYaml(loaded->config);
  const auto again = LoadConfig(kName, text, files.Reader());
  if (!again.ok()) {
    std::fprintf(stderr, "%s\n%s\n", text.c_str(), std::string(again.status().message()).c_str());
  }
  CHECK_THAT(again.ok());
  CHECK_THAT(again->config.SerializeAsString() == loaded->config.SerializeAsString());
  TryCompile(*std::move(loaded));
}

}  // namespace
}  // namespace guideway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> parts = absl::StrSplit(input, '\xff');
  guideway::Files files;
  files.config = std::move(parts.front());
  files.others.assign(parts.begin() + 1, parts.end());
  guideway::Try(std::move(files));
  return 0;
}
