#include "maglev/net.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

TEST(IpAddress, ParsesAndPrintsCanonically) {
  struct {
    const char* text;
    const char* printed;
    int bits;
  } rows[] = {
      {"192.0.2.1", "192.0.2.1", 32},
      {"0.0.0.0", "0.0.0.0", 32},
      {"2001:0db8:0:0::1", "2001:db8::1", 128},
      {"::", "::", 128},
      {"::ffff:192.0.2.1", "::ffff:192.0.2.1", 128},
  };
  for (const auto& row : rows) {
    const auto address = IpAddress::Parse(row.text);
    ASSERT_TRUE(address.ok()) << row.text;
    EXPECT_EQ(address->ToString(), row.printed);
    EXPECT_EQ(address->bits(), row.bits);
  }
}

TEST(IpAddress, RefusesWhatIsNotAnAddress) {
  for (absl::string_view text : {"", "1.2.3", "1.2.3.4.5", "256.0.0.1", "1.2.3.4 ", "01.2.3.4",
                                 "[::1]", "::1%eth0", "web-1", "1:2:3:4:5:6:7:8:9", "10.0.0.1/8"}) {
    const auto address = IpAddress::Parse(text);
    EXPECT_FALSE(address.ok()) << text;
  }
  EXPECT_FALSE(IpAddress::Parse(absl::string_view("1.2.3.4\0", 8)).ok());
  EXPECT_EQ(IpAddress::Parse("a\nb").status().message(),
            "\"a\\nb\" is not an IPv4 or IPv6 address");
}

TEST(IpAddress, FamiliesNeverMeet) {
  EXPECT_NE(*IpAddress::Parse("0.0.0.0"), *IpAddress::Parse("::"));
  EXPECT_NE(*IpAddress::Parse("1.2.3.4"), *IpAddress::Parse("102:304::"));
  EXPECT_NE(IpAddress(), *IpAddress::Parse("0.0.0.0"));
}

TEST(IpAddress, KnowsMulticast) {
  EXPECT_TRUE(IpAddress::Parse("224.0.0.1")->is_multicast());
  EXPECT_TRUE(IpAddress::Parse("239.255.255.255")->is_multicast());
  EXPECT_TRUE(IpAddress::Parse("ff02::1")->is_multicast());
  EXPECT_FALSE(IpAddress::Parse("223.255.255.255")->is_multicast());
  EXPECT_FALSE(IpAddress::Parse("240.0.0.1")->is_multicast());
  EXPECT_FALSE(IpAddress::Parse("fe80::1")->is_multicast());
}

TEST(IpAddress, KnowsLoopback) {
  EXPECT_TRUE(IpAddress::Parse("127.0.0.1")->is_loopback());
  EXPECT_TRUE(IpAddress::Parse("127.255.255.255")->is_loopback());
  EXPECT_TRUE(IpAddress::Parse("::1")->is_loopback());
  EXPECT_FALSE(IpAddress::Parse("128.0.0.0")->is_loopback());
  EXPECT_FALSE(IpAddress::Parse("::")->is_loopback());
  EXPECT_FALSE(IpAddress::Parse("7f00::1")->is_loopback());
}

TEST(Prefix, ParsesContainsAndPrints) {
  struct {
    const char* prefix;
    const char* inside;
    const char* outside;
  } rows[] = {
      {"0.0.0.0/0", "255.255.255.255", "::1"},
      {"10.0.0.0/8", "10.255.0.1", "11.0.0.0"},
      {"192.0.2.128/25", "192.0.2.255", "192.0.2.127"},
      {"192.0.2.1", "192.0.2.1", "192.0.2.2"},
      {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"},
      {"::/0", "ff02::1", "0.0.0.0"},
  };
  for (const auto& row : rows) {
    const auto prefix = Prefix::Parse(row.prefix);
    ASSERT_TRUE(prefix.ok()) << row.prefix;
    EXPECT_EQ(prefix->ToString(), row.prefix);
    EXPECT_TRUE(prefix->Contains(*IpAddress::Parse(row.inside))) << row.prefix;
    EXPECT_FALSE(prefix->Contains(*IpAddress::Parse(row.outside))) << row.prefix;
  }
}

TEST(Prefix, OfAnAddressHasNoHostBits) {
  struct {
    const char* address;
    int length;
    const char* prefix;
  } rows[] = {
      {"255.255.255.255", 0, "0.0.0.0/0"}, {"10.255.0.1", 9, "10.128.0.0/9"},
      {"192.0.2.1", 32, "192.0.2.1"},      {"2001:db8:ffff::1", 33, "2001:db8:8000::/33"},
      {"2001:db8::1", 128, "2001:db8::1"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(Prefix::Of(*IpAddress::Parse(row.address), row.length), *Prefix::Parse(row.prefix))
        << row.prefix;
  }
}

TEST(Prefix, SaysWhatIsWrong) {
  EXPECT_EQ(Prefix::Parse("10.0.0.1/8").status().message(),
            "\"10.0.0.1/8\" has bits set after its prefix length; 10.0.0.0/8 is the network");
  EXPECT_EQ(Prefix::Parse("10.0.0.0/33").status().message(),
            "\"10.0.0.0/33\" has a prefix length that is not 0 to 32");
  for (absl::string_view text : {"10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/ 8", "10.0.0.0/-1", "/8",
                                 "10.0.0.0/8/8", "::/129", "10.0.0.0/0x8", ""}) {
    EXPECT_FALSE(Prefix::Parse(text).ok()) << text;
  }
}

TEST(MacAddress, ParsesAndRefuses) {
  EXPECT_EQ(MacAddress::Parse("02:00:5E:00:00:fE")->ToString(), "02:00:5e:00:00:fe");
  EXPECT_TRUE(MacAddress::Parse("01:00:00:00:00:00")->is_multicast());
  EXPECT_TRUE(MacAddress().is_zero());
  for (absl::string_view text : {"", "02:00:00:00:00", "02-00-00-00-00-01", "02:00:00:00:00:0g",
                                 "2:0:0:0:0:1", "02:00:00:00:00:01:"}) {
    EXPECT_FALSE(MacAddress::Parse(text).ok()) << text;
  }
}

}  // namespace
}  // namespace guideway
