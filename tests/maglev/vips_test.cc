#include "maglev/vips.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "maglev/snapshot.h"

namespace guideway {
namespace {

std::shared_ptr<Service> ServiceAt(ServiceId id, std::vector<IpAddress> vips,
                                   std::vector<PortRange> ports) {
  auto service = std::make_shared<Service>();
  service->id = id;
  for (const IpAddress& vip : vips) service->vips.push_back(Prefix::Of(vip, vip.bits()));
  service->ports = std::move(ports);
  return service;
}

IpAddress V4(uint32_t number) { return IpAddress::V4(&number); }

// What is served where, against a plain map: for few and for very many VIPs, with one service each
// or with more than a line has room for, both families, and addresses that nobody has.
TEST(Vips, FindTheServiceOfEveryAddressAndPort) {
  std::mt19937 random(11);
  for (const uint32_t count : {0u, 1u, 2u, 3u, 100u, 5000u}) {
    std::map<std::pair<IpAddress, uint16_t>, ServiceId> expected;
    std::vector<std::shared_ptr<const Service>> services;
    std::vector<IpAddress> addresses;
    for (uint32_t i = 0; i < count; ++i) {
      uint8_t bytes[16] = {0x20, 1, 0xd, 0xb8};
      std::memcpy(bytes + 12, &i, sizeof(i));
      const IpAddress vip = i % 3 == 0 ? IpAddress::V6(bytes) : V4(0x0a000000 + i * 256);
      addresses.push_back(vip);
      const uint32_t ports = 1 + random() % 9;
      for (uint32_t n = 0; n < ports; ++n) {
        const auto first = static_cast<uint16_t>(1000 + n * 10);
        const auto id = static_cast<ServiceId>(services.size());
        services.push_back(ServiceAt(id, {vip}, {{first, static_cast<uint16_t>(first + 3)}}));
        for (uint16_t port = first; port <= first + 3; ++port) expected[{vip, port}] = id;
      }
    }
    const Vips vips = Vips::Build(services).value();
    for (const IpAddress& vip : addresses) {
      ASSERT_NE(vips.Find(vip), nullptr) << vip.ToString();
      for (uint16_t port = 990; port < 1070; ++port) {
        const Vip::Served* served = vips.Find(vip)->Find(6, port);
        const auto found = expected.find({vip, port});
        ASSERT_EQ(served != nullptr, found != expected.end()) << vip.ToString() << " " << port;
        if (served == nullptr) continue;
        EXPECT_EQ(served->id, found->second);
      }
    }
    for (uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(vips.Find(V4(0x0b000000 + i)), nullptr);
    EXPECT_EQ(vips.Find(IpAddress()), nullptr);
  }
}

TEST(Vips, AreFoundAgainWhenTheyMove) {
  std::vector<std::shared_ptr<const Service>> services = {
      ServiceAt(7, {V4(1)}, {{1, 1}, {3, 3}, {5, 5}})};
  Vips vips = Vips::Build(services).value();
  Vips other;
  EXPECT_EQ(other.Find(V4(1)), nullptr);
  other = std::move(vips);
  EXPECT_EQ(other.Find(V4(1))->Find(6, 5)->id, 7u);
  EXPECT_EQ(other.Find(V4(1))->Find(6, 4), nullptr);
}

TEST(Vips, RefuseWhatCannotBeServed) {
  EXPECT_FALSE(Vips::Build({{ServiceAt(0, {V4(1)}, {})}}).ok());
  EXPECT_FALSE(
      Vips::Build({{ServiceAt(0, {V4(1)}, {{1, 5}}), ServiceAt(1, {V4(1)}, {{5, 9}})}}).ok());
}

}  // namespace
}  // namespace guideway
