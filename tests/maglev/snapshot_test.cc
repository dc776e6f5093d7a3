#include "maglev/snapshot.h"

#include <gtest/gtest.h>

#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

using testing::MakeSnapshot;

IpAddress Address(const char* text) { return IpAddress::Parse(text).value(); }

TEST(Snapshot, FindsServicesByAddressProtocolAndPort) {
  const auto snapshot =
      MakeSnapshot({{.name = "web",
                     .vips = {"198.51.100.10", "198.51.100.11"},
                     .ports = {{443, 443}, {80, 80}, {8000, 8100}, {65535, 65535}}},
                    {.name = "dns",
                     .vips = {"198.51.100.10"},
                     .protocol = Protocol::kUdp,
                     .ports = {{80, 80}}}});
  const auto find = [&](const char* vip, uint8_t protocol, uint16_t port) -> std::string {
    const Service* service = snapshot->FindService(Address(vip), protocol, port);
    return service == nullptr ? "-" : service->name;
  };
  EXPECT_EQ(find("198.51.100.10", 6, 80), "web");
  EXPECT_EQ(find("198.51.100.11", 6, 443), "web");
  EXPECT_EQ(find("198.51.100.10", 17, 80), "dns");
  EXPECT_EQ(find("198.51.100.11", 17, 80), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 81), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 0), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 7999), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 8000), "web");
  EXPECT_EQ(find("198.51.100.10", 6, 8100), "web");
  EXPECT_EQ(find("198.51.100.10", 6, 8101), "-");
  EXPECT_EQ(find("198.51.100.10", 6, 65535), "web");
  EXPECT_EQ(find("198.51.100.10", 1, 0), "-");
  EXPECT_TRUE(snapshot->IsVip(Address("198.51.100.11")));
  EXPECT_FALSE(snapshot->IsVip(Address("198.51.100.12")));
}

TEST(Snapshot, FindsBackendsByIdWithGaps) {
  const auto snapshot =
      MakeSnapshot({{.backends = {{.name = "a", .address = "10.0.0.1", .id = 3},
                                  {.name = "b", .address = "10.0.0.2", .id = 9}}}});
  EXPECT_EQ(snapshot->FindBackend(3)->name, "a");
  EXPECT_EQ(snapshot->FindBackend(9)->name, "b");
  for (BackendId id : {BackendId{0}, BackendId{4}, BackendId{10}, kNoBackend, ~BackendId{0}}) {
    EXPECT_EQ(snapshot->FindBackend(id), nullptr) << id;
  }
}

TEST(SnapshotDeathTest, RefusesTwoServicesOnOneEndpoint) {
  EXPECT_DEATH(MakeSnapshot({{.name = "a"}, {.name = "b"}}), "one service has a VIP");
  EXPECT_DEATH(MakeSnapshot({{.backends = {{.name = "a", .address = "10.0.0.1", .id = 3},
                                           {.name = "b", .address = "10.0.0.2", .id = 3}}}}),
               "backend ids are unique");
}

}  // namespace
}  // namespace guideway
