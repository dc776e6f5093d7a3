// Any bytes as a frame: parsed, and through the whole packet path under one Snapshot with a service
// of each kind. The plain model says what must come of it.

#include <cstdint>
#include <cstdio>
#include <memory>

#include "tests/fuzz/check.h"
#include "tests/support/random_traffic.h"

namespace guideway::testing {
namespace {

// Both paths, kept from one frame to the next: to begin anew takes longer than a frame. Time moves
// on so far in between that all is forgotten but the outer packets' identifications.
class Paths {
 public:
  void Handle(const Bytes& frame) {
    if (handled_++ % 1000 == 0) {
      real_ = std::make_unique<RealPath>();
      plain_ = std::make_unique<PlainPath>();
    }
    now_ += uint64_t{7200} * 1000000000;
    real_->Sweep(*snapshot_, now_);
    plain_->Sweep(*snapshot_, now_);
    // Once as it came, once more as a NIC passes it on that has looked at the header checksum.
    std::vector<std::pair<uint64_t, PlainOutcome>> expected;
    for (const bool good : {false, true}) {
      expected.emplace_back(good, plain_->Handle(frame, good, good, *snapshot_, now_));
    }
    const auto add = [&](const std::vector<std::pair<uint64_t, PlainOutcome>>& released) {
      expected.insert(expected.end(), released.begin(), released.end());
    };
    add(plain_->Release(false, *snapshot_, now_));
    add(plain_->Release(true, *snapshot_, now_));
    auto actual = real_->Send({{frame, false}, {frame, true}}, 0, 2, *snapshot_, now_);
    const auto released = real_->Release(true, *snapshot_, now_);
    actual.insert(actual.end(), released.begin(), released.end());
    if (!real_->error().empty()) std::fprintf(stderr, "%s\n", real_->error().c_str());
    CHECK_THAT(real_->error().empty());
    CHECK_THAT(actual.size() == expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      if (actual[i] == expected[i]) continue;
      std::fprintf(stderr, "expected: %s\nbut was:  %s\n", expected[i].second.ToString().c_str(),
                   actual[i].second.ToString().c_str());
      CHECK_THAT(actual[i] == expected[i]);
    }
  }

 private:
  const std::shared_ptr<const Snapshot> snapshot_ = RichSnapshot();
  std::unique_ptr<RealPath> real_;
  std::unique_ptr<PlainPath> plain_;
  uint64_t handled_ = 0, now_ = 0;
};

}  // namespace
}  // namespace guideway::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static auto& paths = *new guideway::testing::Paths;
  paths.Handle(guideway::testing::Bytes(bytes, bytes + size));
  return 0;
}
