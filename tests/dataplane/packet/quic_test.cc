// QUIC connection ids in the packet path (draft-ietf-quic-load-balancers): an id that names a
// server wins, one that does not leaves the packet to the flow table and the hash.
#include <gtest/gtest.h>

#include "maglev/quic_lb.h"
#include "tests/dataplane/packet/rows.h"
#include "tests/support/quic_lb_encoder.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

constexpr BackendState kUp = BackendState::kUp;

const QuicLb::Config kPlain = {.id = 0, .server_id_length = 2, .nonce_length = 6};
const QuicLb::Config kFourPass = {.id = 1,
                                  .server_id_length = 2,
                                  .nonce_length = 7,
                                  .key = std::array<uint8_t, 16>{1, 2, 3, 4, 5}};
const QuicLb::Config kOneBlock = {
    .id = 2, .server_id_length = 2, .nonce_length = 14, .key = std::array<uint8_t, 16>{9, 8, 7}};

std::string ServerId(int backend) { return std::string("s") + static_cast<char>('0' + backend); }
std::string Nonce(const QuicLb::Config& config, char n) {
  return std::string(config.nonce_length, n);
}
Bytes Id(const QuicLb::Config& config, int backend, char nonce = 'n') {
  return EncodeQuicLb(config, ServerId(backend), Nonce(config, nonce));
}

// Backends b0, b1, … of a QUIC service at UDP 443 of both families.
std::shared_ptr<const Snapshot> Quic(std::vector<BackendState> states, uint64_t version = 1,
                                     bool with_ids = true) {
  TestService service = {.name = "quic",
                         .vips = {kVip4, kVip6},
                         .protocol = Protocol::kUdp,
                         .ports = {{443, 443}},
                         .backends = {}};
  std::vector<std::pair<std::string, uint32_t>> servers;
  for (size_t i = 0; i < states.size(); ++i) {
    service.backends.push_back({absl::StrCat("b", i), absl::StrCat("10.0.0.", 10 + i), states[i]});
    servers.emplace_back(ServerId(static_cast<int>(i)), static_cast<uint32_t>(i));
  }
  if (with_ids) {
    service.quic = std::make_shared<const QuicLb>(
        QuicLb::Build({kPlain, kFourPass, kOneBlock}, servers).value());
  }
  return MakeSnapshot({service}, {.version = version});
}

Bytes From(uint16_t port, const Bytes& payload, const char* client = kClient4) {
  return Framed(
      Ipv4{.source = client}.With(Udp{.source_port = port, .destination_port = 443}, payload));
}
Bytes From6(uint16_t port, const Bytes& payload) {
  return Framed(Ipv6{}.With(Udp{.source_port = port, .destination_port = 443}, payload));
}

TEST(Quic, AKnownIdWins) {
  Path path(Quic({kUp, kUp, kUp, kUp, kUp}));
  for (const QuicLb::Config& config : {kPlain, kFourPass, kOneBlock}) {
    for (int backend = 0; backend < 5; ++backend) {
      const Bytes id = Id(config, backend);
      uint16_t port = 1000;
      for (const Bytes& payload :
           {QuicShortPacket(id), QuicLongPacket(id), QuicShortPacket(id, 0)}) {
        for (const Bytes& frame :
             {From(port, payload), From(port, payload, "192.0.2.250"),
              From(static_cast<uint16_t>(port + 1), payload), From6(port, payload)}) {
          const Outcome outcome = path.Send(frame);
          EXPECT_EQ(outcome.text(), "forward");
          EXPECT_EQ(outcome.backend, absl::StrCat("b", backend));
          EXPECT_EQ(outcome.flow(), "none") << "the table was not asked";
        }
      }
    }
  }
  EXPECT_EQ(path.counters().flow_count(), 0u);
}

// A connection begins with an id of the client's; the server's own comes with its second packet.
TEST(Quic, WinsOverTheFlowTableAndLeavesItAlone) {
  Path path(Quic({kUp, kUp, kUp, kUp, kUp}));
  const Bytes unknown = {0xe0, 1, 2, 3, 4, 5, 6, 7};  // 0b111: of no config
  const Outcome first = path.Send(From(7, QuicLongPacket(unknown)));
  EXPECT_EQ(first.flow(), "new");
  const int other = (first.backend[1] - '0' + 1) % 5;
  EXPECT_EQ(path.Send(From(7, QuicShortPacket(Id(kPlain, other)))).backend,
            absl::StrCat("b", other));
  const Outcome again = path.Send(From(7, QuicLongPacket(unknown)));
  EXPECT_EQ(again.flow(), "hit");
  EXPECT_EQ(again.backend, first.backend);
}

TEST(Quic, WhatNamesNobodyGoesByTableAndHash) {
  const auto snapshot = Quic({kUp, kUp, kUp, kUp, kUp});
  Bytes cut = QuicShortPacket(Id(kFourPass, 1), 0);
  cut.pop_back();
  struct {
    const char* what;
    Bytes payload;
  } const rows[] = {
      {"no payload", {}},
      {"one byte", {0x40}},
      {"an id of no config", QuicLongPacket(Bytes{0xe0, 's', '1', 0, 0, 0, 0, 0, 0})},
      {"a config that is not there", QuicShortPacket(Bytes{0x60, 's', '1', 0, 0, 0, 0, 0, 0})},
      {"a server that is not there", QuicShortPacket(Id(kPlain, 7))},
      {"an id too short for its config", QuicLongPacket(Bytes{0x00, 's', '1', 0})},
      {"a short packet that ends before the nonce does", cut},
      {"a long header without an id", QuicLongPacket(Bytes{})},
      {"a long header cut before its id's length", {0xc0, 0, 0, 0, 1}},
      {"a long header whose id is longer than the packet", {0xc0, 0, 0, 0, 1, 9, 0, 's', '1'}},
  };
  Path plain(Quic({kUp, kUp, kUp, kUp, kUp}, 1, false));
  uint16_t port = 100;
  for (const auto& row : rows) {
    Path path(snapshot);
    for (int n = 0; n < 8; ++n, ++port) {
      const Outcome outcome = path.Send(From(port, row.payload));
      EXPECT_EQ(outcome.text(), "forward") << row.what;
      EXPECT_EQ(outcome.flow(), "new") << row.what;
      EXPECT_EQ(outcome.backend, plain.Send(From(port, row.payload)).backend) << row.what;
      EXPECT_EQ(path.Send(From(port, row.payload)).flow(), "hit") << row.what;
    }
  }
}

TEST(Quic, StatesOfTheNamedBackend) {
  const std::vector<BackendState> all_up(5, kUp);
  std::vector<BackendState> drained = all_up, down = all_up;
  drained[2] = BackendState::kDrain;
  down[2] = BackendState::kDown;
  Path path(Quic(all_up));
  const Bytes payload = QuicShortPacket(Id(kOneBlock, 2));
  EXPECT_EQ(path.Send(From(1, payload)).backend, "b2");
  path.Use(Quic(drained, 2));
  EXPECT_EQ(path.Send(From(1, payload)).backend, "b2") << "it keeps what it has";
  EXPECT_EQ(path.Send(From(2, payload)).backend, "b2") << "from whatever address";
  path.Use(Quic(down, 3));
  for (uint16_t port = 1; port <= 20; ++port) {
    const Outcome outcome = path.Send(From(port, payload));
    EXPECT_EQ(outcome.text(), "forward");
    EXPECT_NE(outcome.backend, "b2");
    EXPECT_EQ(outcome.flow(), "new") << "by the hash";
    EXPECT_EQ(path.Send(From(port, payload)).flow(), "hit");
  }
  path.Use(Quic(all_up, 4));
  EXPECT_EQ(path.Send(From(1, payload)).backend, "b2") << "and back";
  path.Use(Quic(std::vector<BackendState>(5, BackendState::kDown), 5));
  EXPECT_EQ(path.Send(From(1, payload)).text(), "drop no_backend");
}

// The fragments of a packet whose id names a backend go there, too.
TEST(Quic, Fragments) {
  Path path(Quic({kUp, kUp, kUp, kUp, kUp}));
  for (int backend = 0; backend < 5; ++backend) {
    const Bytes datagram =
        Udp{.destination_port = 443}.Around(QuicShortPacket(Id(kPlain, backend), 100));
    for (const Bytes& fragment :
         FragmentsOf(Ipv4{.protocol = 17, .identification = static_cast<uint16_t>(backend)},
                     datagram, {40, 80})) {
      EXPECT_EQ(path.Send(Framed(fragment)).backend, absl::StrCat("b", backend));
    }
  }
}

// Bytes behind the UDP length are no part of the datagram.
TEST(Quic, ReadsTheDatagramAlone) {
  Path path(Quic({kUp, kUp, kUp, kUp, kUp}));
  const Bytes payload = QuicShortPacket(Id(kPlain, 3), 0);
  const Bytes packet = Ipv4{}.With(
      Udp{.destination_port = 443, .length = uint16_t{static_cast<uint16_t>(8 + 4)}}, payload);
  EXPECT_EQ(path.Send(Framed(packet)).flow(), "new") << "the id is cut off by the UDP length";
}

}  // namespace
}  // namespace guideway
