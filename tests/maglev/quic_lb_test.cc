#include "maglev/quic_lb.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "tests/support/quic_lb_encoder.h"

namespace guideway {
namespace {

using testing::EncodeQuicLb;
using testing::QuicBytes;
using testing::QuicLongPacket;
using testing::QuicShortPacket;
using Config = QuicLb::Config;
using Key = std::array<uint8_t, 16>;
using Servers = std::vector<std::pair<std::string, uint32_t>>;

constexpr uint32_t kNone = QuicLb::kNone;
constexpr char kDraftKey[] = "8f95f09245765f80256934e50c66207f";

std::string Raw(const std::string& hex) { return absl::HexStringToBytes(hex); }

QuicBytes Bytes(const std::string& hex) {
  const std::string raw = Raw(hex);
  return {raw.begin(), raw.end()};
}

std::string Hex(const QuicBytes& bytes) {
  return absl::BytesToHexString(std::string(bytes.begin(), bytes.end()));
}

Key KeyOf(const std::string& hex) {
  const std::string raw = Raw(hex);
  EXPECT_EQ(raw.size(), 16u);
  Key key = {};
  std::copy_n(raw.begin(), std::min<size_t>(raw.size(), 16), key.begin());
  return key;
}

QuicLb BuildOne(const Config& config, const Servers& servers) {
  return QuicLb::Build({&config, 1}, servers).value();
}

std::string RandomRaw(size_t size, std::mt19937& random) {
  std::string raw(size, '\0');
  for (char& c : raw) c = static_cast<char>(random());
  return raw;
}

// A copy of its own, so that AddressSanitizer sees each byte read behind it.
uint32_t FindExactly(const QuicLb& lb, absl::Span<const uint8_t> id) {
  return lb.Find(QuicBytes(id.begin(), id.end()));
}
uint32_t FindInPacketExactly(const QuicLb& lb, absl::Span<const uint8_t> payload) {
  return lb.FindInPacket(QuicBytes(payload.begin(), payload.end()));
}

// Draft -21, appendix B, and the example of section 5.4.2. Two rows of the appendix contradict
// themselves; here they are as their bytes are:
//   B.1, second: printed with server id 350d28b420 and nonce 3487d970b, which are the digits of the
//                connection id one place further on.
//   B.2, fourth: printed with config 3, but the first byte, 12, has the bits of config 0.
constexpr struct {
  const char* name;
  int config;
  const char* key;
  const char* server_id;
  const char* nonce;
  int low_bits;  // of the first byte; -1: the length
  const char* connection_id;
} kVectors[] = {
    {"B.1 first", 0, "", "c4605e", "4504cc4f", -1, "07c4605e4504cc4f"},
    {"B.1 second", 1, "", "a350d28b42", "03487d970b", 0, "20a350d28b4203487d970b"},
    {"B.2 first", 0, kDraftKey, "ed793a", "ee080dbf", -1, "0720b1d07b359d3c"},
    {"B.2 second: four rounds to read", 1, kDraftKey, "ed793a51d49b8f5fab65", "ee080dbf48", -1,
     "2fcc381bc74cb4fbad2823a3d1f8fed2"},
    {"B.2 third: one block", 2, kDraftKey, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", -1,
     "504dd2d05a7b0de9b2b9907afb5ecf8cc3"},
    {"B.2 fourth: an even length", 0, kDraftKey, "ed793a51d49b8f5fab", "ee080dbf48c0d1e55d", -1,
     "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc"},
    {"5.4.2", 0, "fdf726a9893ec05c0632d3956680baf0", "31441a", "9c69c275", -1, "0767947d29be054a"},
};

TEST(QuicLb, ReadsAndWritesTheDraftsVectors) {
  for (const auto& row : kVectors) {
    SCOPED_TRACE(row.name);
    Config config = {.id = static_cast<uint8_t>(row.config),
                     .server_id_length = static_cast<uint8_t>(Raw(row.server_id).size()),
                     .nonce_length = static_cast<uint8_t>(Raw(row.nonce).size())};
    if (*row.key != '\0') config.key = KeyOf(row.key);
    const QuicLb lb = BuildOne(config, {{Raw(row.server_id), 7}});
    EXPECT_EQ(lb.Find(Bytes(row.connection_id)), 7u);
    EXPECT_EQ(Hex(EncodeQuicLb(config, Raw(row.server_id), Raw(row.nonce), row.low_bits)),
              row.connection_id);
  }
}

// Every pair of lengths, each with a key and without.
TEST(QuicLb, ReadsWhatAServerWrites) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (uint8_t server_id_length = 1; server_id_length <= 15; ++server_id_length) {
    for (uint8_t nonce_length = 4; server_id_length + nonce_length <= 19; ++nonce_length) {
      for (bool encrypted : {false, true}) {
        Config config = {.id = static_cast<uint8_t>(random() % 7),
                         .server_id_length = server_id_length,
                         .nonce_length = nonce_length};
        if (encrypted) {
          config.key.emplace();
          for (uint8_t& byte : *config.key) byte = static_cast<uint8_t>(random());
        }
        std::map<std::string, uint32_t> servers;
        for (uint32_t value = 0; value < 20; ++value) {
          servers.emplace(RandomRaw(server_id_length, random), value);
        }
        const QuicLb lb = BuildOne(config, Servers(servers.begin(), servers.end()));
        for (const auto& [server_id, value] : servers) {
          const std::string nonce = RandomRaw(nonce_length, random);
          const QuicBytes id =
              EncodeQuicLb(config, server_id, nonce, static_cast<int>(random() % 32));
          ASSERT_EQ(FindExactly(lb, id), value) << Hex(id);
          ASSERT_EQ(FindInPacketExactly(lb, QuicShortPacket(id)), value) << Hex(id);
          ASSERT_EQ(FindInPacketExactly(lb, QuicLongPacket(id)), value) << Hex(id);
          // Of a server that is not among them, if the byte makes it one.
          std::string other = server_id;
          char& byte = other[random() % other.size()];
          byte = static_cast<char>(byte ^ 1 << random() % 8);
          const auto found = servers.find(other);
          ASSERT_EQ(lb.Find(EncodeQuicLb(config, other, nonce)),
                    found == servers.end() ? kNone : found->second);
        }
      }
    }
  }
}

TEST(QuicLb, AServersIdWithZerosIsNotAnothers) {
  const Config config = {.id = 0, .server_id_length = 3, .nonce_length = 4};
  const QuicLb lb = BuildOne(config, {{Raw("000000"), 1}, {Raw("010000"), 2}, {Raw("000001"), 3}});
  EXPECT_EQ(lb.Find(Bytes("07"
                          "000000"
                          "ffffffff")),
            1u);
  EXPECT_EQ(lb.Find(Bytes("07"
                          "010000"
                          "00000000")),
            2u);
  EXPECT_EQ(lb.Find(Bytes("07"
                          "000001"
                          "00000000")),
            3u);
  EXPECT_EQ(lb.Find(Bytes("07"
                          "000100"
                          "00000000")),
            kNone);
}

TEST(QuicLb, TheFirstThreeBitsChooseTheConfig) {
  const Config configs[] = {
      {.id = 5, .server_id_length = 4, .nonce_length = 12, .key = KeyOf(kDraftKey)},
      {.id = 0, .server_id_length = 4, .nonce_length = 4},
      {.id = 2, .server_id_length = 4, .nonce_length = 5, .key = KeyOf(kDraftKey)},
      {.id = 6, .server_id_length = 4, .nonce_length = 5, .key = Key{}},
  };
  const Servers servers = {{Raw("01020304"), 1}, {Raw("05060708"), 2}, {Raw("00000000"), 3}};
  const QuicLb lb = QuicLb::Build(configs, servers).value();
  for (const Config& config : configs) {
    for (const auto& [server_id, value] : servers) {
      const QuicBytes id = EncodeQuicLb(config, server_id, std::string(config.nonce_length, 'n'));
      for (int first = 0; first < 256; ++first) {
        QuicBytes other = id;
        other[0] = static_cast<uint8_t>(first);
        // Of these few, nobody's id happens to read as somebody's under another config.
        EXPECT_EQ(lb.Find(other), first >> 5 == config.id ? value : kNone)
            << Hex(id) << " with first byte " << first;
      }
    }
  }
}

TEST(QuicLb, WhatFollowsTheNonceDoesNotMatter) {
  const Config config = {
      .id = 3, .server_id_length = 2, .nonce_length = 4, .key = KeyOf(kDraftKey)};
  const QuicLb lb = BuildOne(config, {{"ab", 4}});
  QuicBytes id = EncodeQuicLb(config, "ab", "1234");
  for (int more = 0; more < 40; ++more) {
    EXPECT_EQ(FindExactly(lb, id), 4u) << more;
    id.push_back(static_cast<uint8_t>(more));
  }
}

// Every prefix of what servers and clients send, and none reads behind its end.
TEST(QuicLb, RefusesWhatIsTooShort) {
  for (const uint8_t nonce_length : {4, 5, 13, 16}) {
    for (const bool encrypted : {false, true}) {
      Config config = {.id = 1, .server_id_length = 3, .nonce_length = nonce_length};
      if (encrypted) config.key = KeyOf(kDraftKey);
      const QuicLb lb = BuildOne(config, {{"abc", 9}});
      const QuicBytes id = EncodeQuicLb(config, "abc", std::string(nonce_length, 'n'));
      for (size_t size = 0; size < id.size(); ++size) {
        EXPECT_EQ(FindExactly(lb, absl::MakeSpan(id).first(size)), kNone) << size;
      }
      const QuicBytes short_packet = QuicShortPacket(id), long_packet = QuicLongPacket(id);
      for (size_t size = 0; size <= short_packet.size(); ++size) {
        EXPECT_EQ(FindInPacketExactly(lb, absl::MakeSpan(short_packet).first(size)),
                  size < 1 + id.size() ? kNone : 9u)
            << size;
      }
      for (size_t size = 0; size <= long_packet.size(); ++size) {
        EXPECT_EQ(FindInPacketExactly(lb, absl::MakeSpan(long_packet).first(size)),
                  size < 6 + id.size() ? kNone : 9u)
            << size;
      }
    }
  }
}

TEST(QuicLb, ALongHeaderSaysWhereTheIdEnds) {
  const Config config = {.id = 0, .server_id_length = 3, .nonce_length = 4};
  const QuicLb lb = BuildOne(config, {{"abc", 9}});
  QuicBytes packet = QuicLongPacket(EncodeQuicLb(config, "abc", "1234"), 300);
  for (int length = 0; length < 256; ++length) {
    packet[5] = static_cast<uint8_t>(length);
    EXPECT_EQ(lb.FindInPacket(packet), length < 8 ? kNone : 9u) << length;
    // Its length says more than there is.
    if (length == 0) continue;
    const auto cut = absl::MakeSpan(packet).first(6 + static_cast<size_t>(length) - 1);
    EXPECT_EQ(FindInPacketExactly(lb, cut), kNone) << length;
  }
}

TEST(QuicLb, OnlyTheFormBitAndTheIdOfAPacketMatter) {
  const Config config = {.id = 0, .server_id_length = 3, .nonce_length = 4};
  const QuicLb lb = BuildOne(config, {{"abc", 9}});
  const QuicBytes id = EncodeQuicLb(config, "abc", "1234");
  QuicBytes short_packet = QuicShortPacket(id), long_packet = QuicLongPacket(id);
  for (uint8_t low = 0; low < 128; ++low) {
    short_packet[0] = low;
    long_packet[0] = 0x80 | low;
    for (int i = 1; i < 5; ++i) long_packet[i] = low * 2;  // version
    EXPECT_EQ(lb.FindInPacket(short_packet), 9u);
    EXPECT_EQ(lb.FindInPacket(long_packet), 9u);
  }
}

TEST(QuicLb, FindsNobodyWithoutServersOrConfigs) {
  const Config config = {.id = 0, .server_id_length = 3, .nonce_length = 4};
  const QuicBytes id = EncodeQuicLb(config, "abc", "1234");
  EXPECT_EQ(QuicLb().Find(id), kNone);
  EXPECT_EQ(QuicLb::Build({}, {}).value().Find(id), kNone);
  EXPECT_EQ(BuildOne(config, {}).Find(id), kNone);
  EXPECT_EQ(BuildOne(config, {}).FindInPacket(QuicShortPacket(id)), kNone);
}

TEST(QuicLb, SeveralIdsMayMeanOneServer) {
  const Config config = {.id = 0, .server_id_length = 3, .nonce_length = 4};
  const QuicLb lb = BuildOne(config, {{"abc", 5}, {"def", 5}, {"ghi", 0}});
  EXPECT_EQ(lb.Find(EncodeQuicLb(config, "abc", "1234")), 5u);
  EXPECT_EQ(lb.Find(EncodeQuicLb(config, "def", "1234")), 5u);
  EXPECT_EQ(lb.Find(EncodeQuicLb(config, "ghi", "1234")), 0u);
}

TEST(QuicLb, RefusesConfigsOutOfRange) {
  const auto is_valid = [](int id, int server_id_length, int nonce_length) {
    const Config config = {.id = static_cast<uint8_t>(id),
                           .server_id_length = static_cast<uint8_t>(server_id_length),
                           .nonce_length = static_cast<uint8_t>(nonce_length)};
    const absl::Status status = QuicLb::Build({&config, 1}, {}).status();
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
    return status.ok();
  };
  for (int id = 0; id < 256; ++id) EXPECT_EQ(is_valid(id, 3, 4), id <= 6) << id;
  for (int s = 0; s < 256; ++s) {
    for (int n = 0; n < 256; ++n) {
      ASSERT_EQ(is_valid(0, s, n), s >= 1 && s <= 15 && n >= 4 && n <= 18 && s + n <= 19)
          << s << " " << n;
    }
  }
}

TEST(QuicLb, SaysWhichRuleIsBroken) {
  const auto error = [](const std::vector<Config>& configs, const Servers& servers) {
    return std::string(QuicLb::Build(configs, servers).status().message());
  };
  const Config config = {.id = 2, .server_id_length = 3, .nonce_length = 4};
  const Config same_id = {.id = 2, .server_id_length = 3, .nonce_length = 5};
  const Config other_length = {.id = 4, .server_id_length = 5, .nonce_length = 4};
  EXPECT_EQ(error({config, same_id}, {}), "QUIC-LB config 2 comes twice");
  EXPECT_EQ(error({config, other_length}, {}),
            "QUIC-LB configs 2 and 4 differ in the length of server ids: 3 and 5 bytes");
  EXPECT_EQ(error({config}, {{"abc", 1}, {"abc", 1}}), "QUIC-LB server id 616263 comes twice");
  EXPECT_EQ(error({config}, {{"ab", 1}}), "QUIC-LB server id 6162 has 2 bytes, not 3");
  EXPECT_EQ(error({config}, {{std::string(40, 'a'), 1}}).substr(0, 24), "QUIC-LB server id 616161");
  EXPECT_EQ(error({config}, {{"abc", kNone}}),
            "QUIC-LB server id 616263 has the value that means none");
  EXPECT_EQ(error({}, {{"abc", 1}}), "QUIC-LB has server ids but no config to read them by");
}

}  // namespace
}  // namespace guideway
