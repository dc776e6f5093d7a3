// Any bytes as the choices of random traffic (tests/support/random_traffic.h): which configuration,
// which packets, how much time passes, what changes in between. The real path must do what the
// plain model does, and the same in bursts of any size.

#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/fuzz/check.h"
#include "tests/support/random_traffic.h"

namespace guideway::testing {
namespace {

void Run(FuzzedDataProvider data) {
  const uint8_t kind = data.ConsumeIntegral<uint8_t>();
  const TrafficOptions options = {
      .batches = 1 + kind / 16, .largest_batch = 10, .is_for_any_burst_size = kind % 4 == 3};
  const Choose choose = [&](uint32_t n) { return data.ConsumeIntegralInRange<uint32_t>(0, n - 1); };
  Seen seen;
  const Traffic traffic = MakeTraffic(choose, options, seen);
  std::string difference = CompareWithModel(traffic);
  if (difference.empty() && options.is_for_any_burst_size) {
    const std::vector<PlainOutcome> one = RunTraffic(traffic.batches, 1, difference);
    if (difference.empty()) {
      difference = CompareButIdentifications(traffic, one, traffic.outcomes);
    }
  }
  if (!difference.empty()) std::fprintf(stderr, "%s", difference.c_str());
  CHECK_THAT(difference.empty());
}

}  // namespace
}  // namespace guideway::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  guideway::testing::Run(FuzzedDataProvider(bytes, size));
  return 0;
}
