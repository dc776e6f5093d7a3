#include "dataplane/packet/shared_state.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

using testing::MakeSnapshot;
using testing::TestService;

// Ids of backends go from service to service, in whatever order: each service has what was counted
// while they were its own.
TEST(SharedState, AServiceHasWhatItsBackendsCountedWhileTheyWereItsOwn) {
  constexpr BackendId kBackends = 7;
  constexpr ServiceId kServices = 3;
  std::minstd_rand random(1);
  SharedState shared(2, 64, PageSize::kTransparentHuge);
  std::map<BackendId, ServiceId> service_of;  // of those that have left it, too
  std::map<ServiceId, uint64_t> packets;
  for (int round = 0; round < 300; ++round) {
    std::vector<TestService> services(kServices);
    for (ServiceId s = 0; s < kServices; ++s) {
      services[s].vips = {absl::StrCat("198.51.100.", s)};
      services[s].backends.clear();
    }
    for (BackendId b = 0; b < kBackends; ++b) {
      const ServiceId to = random() % (kServices + 1);
      if (to == kServices) continue;  // in none
      services[to].backends.push_back(
          {.name = absl::StrCat("b", b), .address = absl::StrCat("10.0.0.", b), .id = b});
      service_of[b] = to;
    }
    // Any service may be gone for a while, too: here the last ones, as ids go by the order.
    while (!services.empty() && services.back().backends.empty() && random() % 2 == 0) {
      services.pop_back();
    }
    shared.Prepare(*MakeSnapshot(services));
    for (const auto& [backend, service] : service_of) {
      const uint64_t sent = random() % 10;
      shared.counters(random() % 2).backend(backend).packets.Add(sent);
      packets[service] += sent;
    }
    for (ServiceId s = 0; s < kServices; ++s) {
      ASSERT_EQ(shared.service_counts(s).packets, packets[s]) << "service " << s << ", " << round;
    }
  }
}

}  // namespace
}  // namespace guideway
