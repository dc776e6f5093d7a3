// Packets as people write them: what is understood, what is said of the rest, and the frames byte
// for byte.
#include "dataplane/packet/packet_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/packet_builder.h"

namespace guideway {
namespace {

using testing::Bytes;
using testing::Checksum;
using ::testing::HasSubstr;
using testing::Hex;
using ::testing::StartsWith;
using Kind = PacketText::Kind;

PacketText Parsed(const std::string& text) {
  const absl::StatusOr<PacketText> packet = PacketText::Parse(text);
  EXPECT_EQ(packet.status(), absl::OkStatus());
  return packet.ok() ? *packet : PacketText();
}

// What is wrong, without the text itself before it.
std::string Error(const std::string& text) {
  const absl::StatusOr<PacketText> packet = PacketText::Parse(text);
  if (packet.ok()) return "it is right";
  EXPECT_EQ(packet.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(packet.status().message());
  const std::string start = absl::StrCat("\"", text, "\": ");
  EXPECT_THAT(message, StartsWith(start));
  return message.substr(start.size());
}

IpAddress Ip(const std::string& text) { return IpAddress::Parse(text).value(); }

TEST(PacketText, WhatItSays) {
  EXPECT_EQ(Parsed("tcp 203.0.113.7:40000 > 198.51.100.10:80"),
            (PacketText{Kind::kTcp, Ip("203.0.113.7"), Ip("198.51.100.10"), 40000, 80, false}));
  EXPECT_EQ(Parsed("tcp 203.0.113.7:1 > 198.51.100.10:65535 syn"),
            (PacketText{Kind::kTcp, Ip("203.0.113.7"), Ip("198.51.100.10"), 1, 65535, true}));
  EXPECT_EQ(Parsed("udp 203.0.113.7:40000 > 198.51.100.10:53"),
            (PacketText{Kind::kUdp, Ip("203.0.113.7"), Ip("198.51.100.10"), 40000, 53, false}));
  EXPECT_EQ(Parsed("icmp 203.0.113.7 > 198.51.100.10"),
            (PacketText{Kind::kIcmp, Ip("203.0.113.7"), Ip("198.51.100.10"), 0, 0, false}));
  const PacketText v6 = {Kind::kTcp, Ip("2001:db8::7"), Ip("2001:db8:100::10"), 40000, 443, false};
  EXPECT_EQ(Parsed("tcp [2001:db8::7]:40000 > [2001:db8:100::10]:443"), v6);
  EXPECT_EQ(Parsed("tcp [2001:DB8:0:0::7]:40000 > [2001:db8:100::0.0.0.16]:00443"), v6);
  const PacketText echo = {Kind::kIcmp, Ip("2001:db8::7"), Ip("2001:db8:100::10"), 0, 0, false};
  EXPECT_EQ(Parsed("icmp [2001:db8::7] > [2001:db8:100::10]"), echo);
  EXPECT_EQ(Parsed("icmp 2001:db8::7 > 2001:db8:100::10"), echo);
  EXPECT_EQ(Parsed("icmp [2001:db8::7] > 2001:db8:100::10"), echo);
  EXPECT_EQ(Parsed("icmp :: > ::1").source, Ip("::"));
}

TEST(PacketText, WhiteSpaceIsFree) {
  const PacketText packet = Parsed("tcp 203.0.113.7:40000 > 198.51.100.10:80 syn");
  for (const char* text :
       {"tcp 203.0.113.7:40000>198.51.100.10:80 syn", "tcp 203.0.113.7:40000> 198.51.100.10:80 syn",
        "tcp 203.0.113.7:40000 >198.51.100.10:80 syn",
        "  tcp\t203.0.113.7:40000  >\n198.51.100.10:80   syn\n"}) {
    EXPECT_EQ(Parsed(text), packet) << text;
  }
  EXPECT_EQ(Parsed("icmp ::1>::2").destination, Ip("::2"));
}

TEST(PacketText, CanonicalText) {
  for (const char* text :
       {"tcp 203.0.113.7:40000 > 198.51.100.10:80", "tcp 203.0.113.7:40000 > 198.51.100.10:80 syn",
        "udp [2001:db8::7]:40000 > [2001:db8:100::10]:53", "icmp 203.0.113.7 > 198.51.100.10",
        "icmp [2001:db8::7] > [2001:db8:100::10]"}) {
    EXPECT_EQ(Parsed(text).ToString(), text);
  }
  EXPECT_EQ(Parsed(" icmp 2001:0DB8::7>2001:db8:100::10").ToString(),
            "icmp [2001:db8::7] > [2001:db8:100::10]");
  EXPECT_EQ(Parsed("udp 1.2.3.4:0080>5.6.7.8:1").ToString(), "udp 1.2.3.4:80 > 5.6.7.8:1");
}

TEST(PacketText, WhatIsWrong) {
  struct {
    const char* text;
    const char* error;
  } rows[] = {
      {"", "allowed is, for example, tcp 203.0.113.7:40000 > 198.51.100.10:80"},
      {"  ", "allowed is, for example, tcp 203.0.113.7:40000 > 198.51.100.10:80"},
      {"sctp 1.2.3.4:1 > 5.6.7.8:2",
       "the first word, the protocol, is \"sctp\"; allowed are tcp, udp, icmp"},
      {"TCP 1.2.3.4:1 > 5.6.7.8:2",
       "the first word, the protocol, is \"TCP\"; allowed are tcp, udp, icmp"},
      {"1.2.3.4:1 > 5.6.7.8:2",
       "the first word, the protocol, is \"1.2.3.4:1\"; allowed are tcp, udp, icmp"},
      {"tcp",
       "there is no \">\"; allowed is SOURCE > DESTINATION, in quotes or the shell takes it "
       "for a file's"},
      {"tcp 1.2.3.4:1 5.6.7.8:2",
       "there is no \">\"; allowed is SOURCE > DESTINATION, in quotes "
       "or the shell takes it for a file's"},
      {"tcp 1.2.3.4:1 > 5.6.7.8:2 > 9.9.9.9:3", "there is a second \">\"; allowed is one"},
      {"tcp > 5.6.7.8:2",
       "the source is missing; allowed are 203.0.113.7:40000, [2001:db8::7]:40000"},
      {"icmp 1.2.3.4 >",
       "the destination is missing; allowed are 203.0.113.7, 2001:db8::7, [2001:db8::7]"},
      {"tcp 203.0.113.7 > 5.6.7.8:2", "the source has no port; allowed is 203.0.113.7:PORT"},
      {"udp 1.2.3.4:1 > 5.6.7.8", "the destination has no port; allowed is 5.6.7.8:PORT"},
      {"tcp [::1] > [::2]:2", "the source has no port; allowed is [::1]:PORT"},
      {"tcp 2001:db8::7:40000 > [::2]:2",
       "the source \"2001:db8::7:40000\" has no brackets, but several colons; allowed are "
       "203.0.113.7:40000, [2001:db8::7]:40000"},
      {"udp [::1]:1 > ::2",
       "the destination \"::2\" has no brackets, but several colons; allowed are "
       "203.0.113.7:40000, [2001:db8::7]:40000"},
      {"tcp 1.2.3.4: > 5.6.7.8:2", "the source has the port \"\"; allowed is 1 to 65535"},
      {"tcp 1.2.3.4:0 > 5.6.7.8:2", "the source has the port \"0\"; allowed is 1 to 65535"},
      {"tcp 1.2.3.4:1 > 5.6.7.8:65536",
       "the destination has the port \"65536\"; allowed is 1 to 65535"},
      {"tcp 1.2.3.4:+1 > 5.6.7.8:2", "the source has the port \"+1\"; allowed is 1 to 65535"},
      {"tcp 1.2.3.4:-1 > 5.6.7.8:2", "the source has the port \"-1\"; allowed is 1 to 65535"},
      {"tcp 1.2.3.4:0x50 > 5.6.7.8:2", "the source has the port \"0x50\"; allowed is 1 to 65535"},
      {"tcp 1.2.3.4:http > 5.6.7.8:2", "the source has the port \"http\"; allowed is 1 to 65535"},
      {"tcp 1.2.3.4:000001 > 5.6.7.8:2",
       "the source has the port \"000001\"; allowed is 1 to 65535"},
      {"tcp [::1]: > [::2]:2", "the source has the port \"\"; allowed is 1 to 65535"},
      {"tcp 1.2.3.4:1 2 > 5.6.7.8:2", "the source has the port \"1 2\"; allowed is 1 to 65535"},
      {"icmp 1.2.3.4:7 > 5.6.7.8", "the source has a port, \"7\"; icmp has none"},
      {"icmp ::1 > [::2]:80", "the destination has a port, \"80\"; icmp has none"},
      {"tcp 1.2.3:1 > 5.6.7.8:2",
       "the source: \"1.2.3\" is not an IPv4 or IPv6 address; allowed "
       "are 203.0.113.7:40000, [2001:db8::7]:40000"},
      {"tcp 1.2.3.4:1 > example.com:2",
       "the destination: \"example.com\" is not an IPv4 or IPv6 address; allowed are "
       "203.0.113.7:40000, [2001:db8::7]:40000"},
      {"tcp [1.2.3.4]:1 > 5.6.7.8:2",
       "the source: \"1.2.3.4\" is not an IPv6 address; allowed are "
       "203.0.113.7:40000, [2001:db8::7]:40000"},
      {"tcp [::1%eth0]:1 > [::2]:2",
       "the source: \"::1%eth0\" is not an IPv6 address; allowed are "
       "203.0.113.7:40000, [2001:db8::7]:40000"},
      {"icmp [] > [::2]",
       "the source: \"\" is not an IPv6 address; allowed are 203.0.113.7, "
       "2001:db8::7, [2001:db8::7]"},
      {"tcp [::1:1 > [::2]:2",
       "the source \"[::1:1\" has no \"]\"; allowed are 203.0.113.7:40000, [2001:db8::7]:40000"},
      {"tcp [::1]80 > [::2]:2",
       "the source has \"80\" after \"]\"; allowed are 203.0.113.7:40000, [2001:db8::7]:40000"},
      {"tcp [::1]:1 > 5.6.7.8:2",
       "the source is of IPv6 and the destination of IPv4; allowed are two of one family"},
      {"icmp 1.2.3.4 > ::2",
       "the source is of IPv4 and the destination of IPv6; allowed are two of one family"},
      {"icmp ::ffff:1.2.3.4 > 1.2.3.4",
       "the source is of IPv6 and the destination of IPv4; allowed are two of one family"},
      {"tcp 1.2.3.4:1 > 5.6.7.8:2 ack", "after the destination there is \"ack\"; allowed is syn"},
      {"tcp 1.2.3.4:1 > 5.6.7.8:2 syn syn",
       "after the destination there is \"syn syn\"; allowed is syn"},
      {"udp 1.2.3.4:1 > 5.6.7.8:2 syn",
       "after the destination there is \"syn\"; allowed is nothing (syn is for tcp)"},
      {"icmp ::1 > ::2 syn",
       "after the destination there is \"syn\"; allowed is nothing (syn is for tcp)"},
  };
  for (const auto& row : rows) EXPECT_EQ(Error(row.text), row.error) << row.text;
}

TEST(PacketText, WhatIsWrongIsShownAsText) {
  const auto message = [](const std::string& text) {
    return std::string(PacketText::Parse(text).status().message());
  };
  EXPECT_EQ(message(std::string("t\0\x1b[31m\"", 8)),
            "\"t\\x00\\x1b[31m\\\"\": the first word, the protocol, is \"t\\x00\\x1b[31m\\\"\"; "
            "allowed are tcp, "
            "udp, icmp");
  EXPECT_LT(message(std::string(1 << 20, 'x')).size(), 300u);
  EXPECT_THAT(message(std::string(1 << 20, 'x')), HasSubstr("xxx…\""));
}

// --- frames --------------------------------------------------------------------------------------

Bytes FromHex(const std::string& text) {
  Bytes bytes;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == ' ') {
      ++i;
      continue;
    }
    bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
    i += 2;
  }
  return bytes;
}

// Every checksum here was worked out by another program (scapy).
TEST(PacketText, Frames) {
  constexpr char kV4[] = "020000000001 020000000002 0800 ";
  constexpr char kV6[] = "020000000001 020000000002 86dd ";
  struct {
    const char* text;
    std::string frame;
  } rows[] = {
      {"tcp 203.0.113.7:40000 > 198.51.100.10:80",
       absl::StrCat(kV4, "45000028 00004000 4006d48a cb007107 c633640a ",
                    "9c400050 00000000 00000000 5010ffff acfe0000")},
      {"tcp 203.0.113.7:40000 > 198.51.100.10:80 syn",
       absl::StrCat(kV4, "45000028 00004000 4006d48a cb007107 c633640a ",
                    "9c400050 00000000 00000000 5002ffff ad0c0000")},
      {"udp 203.0.113.7:40000 > 198.51.100.10:53",
       absl::StrCat(kV4, "4500001c 00004000 4011d48b cb007107 c633640a ", "9c400035 0008fd22")},
      {"icmp 203.0.113.7 > 198.51.100.10",
       absl::StrCat(kV4, "45000024 00004000 4001d493 cb007107 c633640a ",
                    "0800f7ff 00000000 00000000 00000000")},
      {"tcp [2001:db8::7]:40000 > [2001:db8:100::10]:443",
       absl::StrCat(kV6,
                    "60000000 00140640 20010db8 00000000 00000000 00000007 20010db8 01000000 "
                    "00000000 00000010 ",
                    "9c4001bb 00000000 00000000 5010ffff b5500000")},
      {"tcp [2001:db8::7]:40000 > [2001:db8:100::10]:443 syn",
       absl::StrCat(kV6,
                    "60000000 00140640 20010db8 00000000 00000000 00000007 20010db8 01000000 "
                    "00000000 00000010 ",
                    "9c4001bb 00000000 00000000 5002ffff b55e0000")},
      {"udp [2001:db8::7]:40000 > [2001:db8:100::10]:53",
       absl::StrCat(kV6,
                    "60000000 00081140 20010db8 00000000 00000000 00000007 20010db8 01000000 "
                    "00000000 00000010 ",
                    "9c400035 000806e0")},
      {"icmp 2001:db8::7 > 2001:db8:100::10",
       absl::StrCat(kV6,
                    "60000000 00103a40 20010db8 00000000 00000000 00000007 20010db8 01000000 "
                    "00000000 00000010 ",
                    "8000232c 00000000 00000000 00000000")},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(Hex(Parsed(row.text).Frame()), Hex(FromHex(row.frame))) << row.text;
  }
}

// The checksum of what is there, with the addresses and what else counts: 0 if it is right. By
// rules of its own, from the frame alone.
void ExpectWellFormed(const Bytes& frame, const std::string& text) {
  const bool is_v6 = frame[12] == 0x86;
  const Bytes ip(frame.begin() + 14, frame.end());
  const size_t header = is_v6 ? 40 : 20;
  const uint8_t protocol = is_v6 ? ip[6] : ip[9];
  const Bytes transport(ip.begin() + static_cast<int>(header), ip.end());
  if (is_v6) {
    EXPECT_EQ(ip[4] << 8 | ip[5], static_cast<int>(transport.size())) << text;
  } else {
    EXPECT_EQ(ip[2] << 8 | ip[3], static_cast<int>(ip.size())) << text;
    EXPECT_EQ(Checksum({ip.begin(), ip.begin() + 20}), 0) << text;
  }
  Bytes summed;
  if (protocol != 1) {
    summed.assign(ip.begin() + (is_v6 ? 8 : 12), ip.begin() + static_cast<int>(header));
    summed.insert(summed.end(), {0, protocol, 0, static_cast<uint8_t>(transport.size())});
  }
  summed.insert(summed.end(), transport.begin(), transport.end());
  EXPECT_EQ(Checksum(summed), 0) << text;
  if (protocol == 17) {
    EXPECT_EQ(transport[4] << 8 | transport[5], static_cast<int>(transport.size())) << text;
    EXPECT_NE(transport[6] << 8 | transport[7], 0) << text;
  }
}

TEST(PacketText, ChecksumsOfAnyAddresses) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  for (int round = 0; round < 20000; ++round) {
    uint8_t bytes[32];
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() % 4 == 0 ? 0xff : random());
    const bool is_v6 = random() % 2 == 0;
    PacketText packet = {
        .kind = static_cast<Kind>(random() % 3),
        .source = is_v6 ? IpAddress::V6(bytes) : IpAddress::V4(bytes),
        .destination = is_v6 ? IpAddress::V6(bytes + 16) : IpAddress::V4(bytes + 16)};
    if (packet.kind != Kind::kIcmp) {
      packet.source_port = static_cast<uint16_t>(1 + random() % 65535);
      packet.destination_port = static_cast<uint16_t>(1 + random() % 65535);
    }
    packet.syn = packet.kind == Kind::kTcp && random() % 2 == 0;
    ExpectWellFormed(packet.Frame(), packet.ToString());
    EXPECT_EQ(Parsed(packet.ToString()), packet) << packet.ToString();
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

// The sum of this one is 0, which UDP has to write otherwise.
TEST(PacketText, AUdpChecksumOfZero) {
  PacketText packet = Parsed("udp 10.0.0.1:1 > 10.0.0.2:1");
  const Bytes frame = packet.Frame();
  // What is missing to ffff goes to the port.
  const int sum = frame[40] << 8 | frame[41];
  packet.source_port = static_cast<uint16_t>(1 + sum);
  const Bytes other = packet.Frame();
  EXPECT_EQ(other[40] << 8 | other[41], 0xffff);
  ExpectWellFormed(other, packet.ToString());
}

}  // namespace
}  // namespace guideway
