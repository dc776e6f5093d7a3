#include "maglev/prefix_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

constexpr uint32_t kNone = PrefixMap::kNone;
using Entries = std::vector<std::pair<Prefix, uint32_t>>;

IpAddress Address(const std::string& text) { return IpAddress::Parse(text).value(); }

PrefixMap MapOf(const std::vector<std::pair<std::string, uint32_t>>& rows) {
  Entries entries;
  for (const auto& [prefix, value] : rows)
    entries.emplace_back(Prefix::Parse(prefix).value(), value);
  return PrefixMap::Build(entries).value();
}

// The plain oracle: looks at every prefix.
uint32_t Longest(const Entries& entries, const IpAddress& address) {
  uint32_t value = kNone;
  int length = -1;
  for (const auto& [prefix, v] : entries) {
    if (prefix.length <= length || !prefix.Contains(address)) continue;
    length = prefix.length;
    value = v;
  }
  return value;
}

TEST(PrefixMap, TheLongestPrefixWins) {
  const PrefixMap map = MapOf({{"10.0.0.0/8", 1},
                               {"10.1.0.0/16", 2},
                               {"10.1.2.3", 3},
                               {"10.1.2.2/31", 4},
                               {"192.0.2.0/25", 5},
                               {"192.0.2.128/25", 6},
                               {"2001:db8::/32", 7},
                               {"2001:db8:0:1::/64", 8},
                               {"2001:db8::1", 9}});
  const std::pair<const char*, uint32_t> rows[] = {
      {"9.255.255.255", kNone},  {"10.0.0.0", 1},        {"10.255.255.255", 1},
      {"11.0.0.0", kNone},       {"10.1.0.0", 2},        {"10.1.255.255", 2},
      {"10.2.0.0", 1},           {"10.1.2.3", 3},        {"10.1.2.2", 4},
      {"10.1.2.4", 2},           {"192.0.2.127", 5},     {"192.0.2.128", 6},
      {"192.0.3.0", kNone},      {"2001:db8::", 7},      {"2001:db8::1", 9},
      {"2001:db8::2", 7},        {"2001:db8:0:1::1", 8}, {"2001:db8:0:2::", 7},
      {"2001:db9::", kNone},     {"::", kNone},          {"0.0.0.0", kNone},
      {"::ffff:10.1.2.3", kNone}};
  for (const auto& [address, value] : rows) EXPECT_EQ(map.Find(Address(address)), value) << address;
  EXPECT_EQ(map.Find(IpAddress()), kNone);
}

TEST(PrefixMap, EverythingOfOneFamily) {
  const PrefixMap map = MapOf({{"0.0.0.0/0", 1}, {"10.0.0.0/8", 2}});
  EXPECT_EQ(map.Find(Address("255.255.255.255")), 1u);
  EXPECT_EQ(map.Find(Address("10.0.0.1")), 2u);
  EXPECT_EQ(map.Find(Address("::")), kNone);
  EXPECT_EQ(map.Find(IpAddress()), kNone);
  const PrefixMap v6 = MapOf({{"::/0", 3}});
  EXPECT_EQ(v6.Find(Address("2001:db8::1")), 3u);
  EXPECT_EQ(v6.Find(Address("10.0.0.1")), kNone);
}

TEST(PrefixMap, WithoutPrefixesContainsNothing) {
  EXPECT_EQ(PrefixMap().Find(Address("10.0.0.1")), kNone);
  const PrefixMap map = PrefixMap::Build({}).value();
  EXPECT_EQ(map.Find(Address("10.0.0.1")), kNone);
  EXPECT_EQ(map.Find(Address("2001:db8::1")), kNone);
}

TEST(PrefixMap, RefusesWhatIsAmbiguous) {
  const Prefix ten = Prefix::Parse("10.0.0.0/8").value();
  const auto error = [](const Entries& entries) {
    return std::string(PrefixMap::Build(entries).status().message());
  };
  EXPECT_NE(error({{ten, 1}, {ten, 1}}).find("10.0.0.0/8"), std::string::npos);
  EXPECT_NE(error({{ten, kNone}}), "");
  EXPECT_NE(error({{Prefix{Address("10.0.0.1"), 8}, 1}}), "") << "host bits";
  EXPECT_NE(error({{Prefix{Address("10.0.0.0"), 33}, 1}}), "");
  EXPECT_NE(error({{Prefix{IpAddress(), 0}, 1}}), "");
}

TEST(PrefixMap, AFewPrefixesAreSmall) {
  EXPECT_LE(MapOf({{"192.0.2.0/25", 0}, {"192.0.2.128/25", 1}, {"2001:db8:e::/48", 0}}).bytes(),
            1024u);
}

// The address `step` after (or before) this one, all bits but the family's.
IpAddress Neighbour(const IpAddress& a, int step) {
  std::array<uint8_t, 16> bytes;
  std::copy_n(a.bytes(), 16, bytes.begin());
  for (int i = a.bits() / 8 - 1; i >= 0; --i) {
    bytes[i] = static_cast<uint8_t>(bytes[i] + step);
    if (bytes[i] != (step > 0 ? 0 : 255)) break;
  }
  return a.is_v4() ? IpAddress::V4(bytes.data()) : IpAddress::V6(bytes.data());
}

IpAddress LastOf(const Prefix& prefix) {
  std::array<uint8_t, 16> bytes;
  std::copy_n(prefix.address.bytes(), 16, bytes.begin());
  for (int bit = prefix.length; bit < prefix.address.bits(); ++bit) {
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] | 0x80 >> bit % 8);
  }
  return prefix.address.is_v4() ? IpAddress::V4(bytes.data()) : IpAddress::V6(bytes.data());
}

TEST(PrefixMap, FindsWhatThePlainSearchFinds) {
  for (uint32_t seed = 0; seed < 120; ++seed) {
    std::mt19937 random(seed);
    // Of few bits, so that prefixes nest and meet; of all bits; of lengths around the steps of 6.
    const bool dense = seed % 3 != 0;
    const int count = 1 + static_cast<int>(random() % (seed % 10 == 0 ? 400 : 40));
    std::map<Prefix, uint32_t> unique;
    for (int i = 0; i < count; ++i) {
      std::array<uint8_t, 16> bytes;
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() & (dense ? 0x81 : 0xff));
      const bool v4 = seed % 2 == 0 || random() % 8 == 0;
      const IpAddress address = v4 ? IpAddress::V4(bytes.data()) : IpAddress::V6(bytes.data());
      const int length = static_cast<int>(random() % (address.bits() + 1));
      unique[Prefix::Of(address, length)] = static_cast<uint32_t>(random() % 5);
    }
    Entries entries(unique.begin(), unique.end());
    std::shuffle(entries.begin(), entries.end(), random);
    const PrefixMap map = PrefixMap::Build(entries).value();

    std::vector<IpAddress> probes;
    for (const auto& [prefix, value] : entries) {
      const IpAddress first = prefix.address, last = LastOf(prefix);
      probes.insert(probes.end(), {first, last, Neighbour(first, -1), Neighbour(last, 1)});
      // A bit somewhere else.
      std::array<uint8_t, 16> bytes;
      std::copy_n(last.bytes(), 16, bytes.begin());
      const int bit = static_cast<int>(random() % last.bits());
      bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ 0x80 >> bit % 8);
      probes.push_back(last.is_v4() ? IpAddress::V4(bytes.data()) : IpAddress::V6(bytes.data()));
    }
    for (const IpAddress& probe : probes) {
      ASSERT_EQ(map.Find(probe), Longest(entries, probe))
          << "seed " << seed << ", address " << probe.ToString();
    }
  }
}

}  // namespace
}  // namespace guideway
