// `nat`: the destination becomes the backend's and, on the way back, the source the VIP's, in
// packets and in those that ICMP errors quote (RFC 5508). Expected packets have their checksums
// computed over all they hold, so what was corrected by difference is held against the whole.
#include <gtest/gtest.h>

#include "tests/dataplane/packet/rows.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

constexpr uint16_t kClientPort = 40000;
constexpr const char* kRouter4 = "192.0.2.99";
constexpr const char* kRouter6 = "2001:db8:99::1";

// web: 80 to 8080, dns: 53 as it is; both families. any: every protocol.
std::vector<TestService> NatServices() {
  std::vector<TestService> services;
  for (const bool v6 : {false, true}) {
    const std::string vip = v6 ? kVip6 : kVip4, backend = v6 ? kBackend6 : kBackend4;
    services.push_back({.name = "web",
                        .vips = {vip},
                        .backends = {{.name = "w", .address = backend, .port = 8080}},
                        .forwarding = Forwarding::kNat});
    services.push_back({.name = "dns",
                        .vips = {vip},
                        .protocol = Protocol::kUdp,
                        .ports = {{53, 53}, {5000, 5010}},
                        .backends = {{"d", backend}},
                        .forwarding = Forwarding::kNat});
    services.push_back({.name = "any",
                        .vips = {v6 ? "2001:db8:10::77" : "198.51.100.77"},
                        .protocol = Protocol::kAny,
                        .backends = {{"a", v6 ? "2001:db8:b::77" : "10.0.0.77"}},
                        .forwarding = Forwarding::kNat});
  }
  return services;
}

std::shared_ptr<const Snapshot> NatSnapshot() {
  return MakeSnapshot(NatServices(), {.own_addresses = {"10.0.0.1", "2001:db8:b::1"}});
}

// One direction's packet between a client and a service, as it is before and after.
struct Row {
  const char* what;
  Bytes in;
  Bytes out;
  const char* service;
  const char* backend;
  const char* flow;
};

void Check(const std::vector<Row>& rows, Path& path) {
  for (const Row& row : rows) {
    const Outcome outcome = path.Send(Framed(row.in));
    EXPECT_EQ(outcome.text(), "forward") << row.what;
    EXPECT_EQ(Hex(outcome.frame()), Hex(Sent(row.out))) << row.what;
    EXPECT_EQ(outcome.service, row.service) << row.what;
    EXPECT_EQ(outcome.backend, row.backend) << row.what;
    EXPECT_EQ(outcome.flow(), row.flow) << row.what;
  }
}

TEST(Nat, ThereAndBack) {
  const Ipv4 there4 = {.tos = 0x2a, .ttl = 3},
             translated4 = {.destination = kBackend4, .tos = 0x2a, .ttl = 3};
  const Ipv4 answer4 = {.source = kBackend4, .destination = kClient4, .dont_fragment = false},
             back4 = {.source = kVip4, .destination = kClient4, .dont_fragment = false};
  const Ipv6 there6 = {.flow_label = 7, .hop_limit = 3},
             translated6 = {.destination = kBackend6, .flow_label = 7, .hop_limit = 3};
  const Ipv6 answer6 = {.source = kBackend6, .destination = kClient6},
             back6 = {.source = kVip6, .destination = kClient6};
  const Bytes data = Counting(33);
  const auto from = [](uint16_t source, uint16_t destination) {
    return Tcp{.source_port = source, .destination_port = destination};
  };
  const auto udp = [](uint16_t source, uint16_t destination) {
    return Udp{.source_port = source, .destination_port = destination};
  };
  Udp no_sum = udp(kClientPort, 5010), no_sum_back = udp(5010, kClientPort);
  no_sum.checksum = no_sum_back.checksum = 0;
  const Ipv4 with_options = {.options = {0x94, 4, 0, 0}};
  const Ipv4 translated_with_options = {.destination = kBackend4, .options = {0x94, 4, 0, 0}};
  const std::vector<Extension> extensions = {ExtensionHeader(0), ExtensionHeader(60, 1)};
  Path path(NatSnapshot());
  Check(
      {
          {"TCP", there4.With(from(kClientPort, 80), data),
           translated4.With(from(kClientPort, 8080), data), "web", "w", "new"},
          {"TCP again", there4.With(from(kClientPort, 80)),
           translated4.With(from(kClientPort, 8080)), "web", "w", "hit"},
          {"TCP with IP options", with_options.With(from(kClientPort, 80), data),
           translated_with_options.With(from(kClientPort, 8080), data), "web", "w", "hit"},
          {"its answer", answer4.With(from(8080, kClientPort), data),
           back4.With(from(80, kClientPort), data), "web", "w", "hit"},
          {"an answer that nobody asked for: there is no state", answer4.With(from(8080, 1), data),
           back4.With(from(80, 1), data), "web", "w", "hit"},
          {"UDP, port as it is", there4.With(udp(kClientPort, 53), data),
           translated4.With(udp(kClientPort, 53), data), "dns", "d", "new"},
          {"its answer", answer4.With(udp(53, kClientPort), data),
           back4.With(udp(53, kClientPort), data), "dns", "d", "hit"},
          {"UDP without a checksum", there4.With(no_sum, data), translated4.With(no_sum, data),
           "dns", "d", "new"},
          {"its answer, neither", answer4.With(no_sum_back, data), back4.With(no_sum_back, data),
           "dns", "d", "hit"},
          {"TCP over IPv6", there6.With(from(kClientPort, 80), data),
           translated6.With(from(kClientPort, 8080), data), "web", "w", "new"},
          {"its answer", answer6.With(from(8080, kClientPort), data),
           back6.With(from(80, kClientPort), data), "web", "w", "hit"},
          {"TCP behind extension headers",
           Ipv6{.extensions = extensions}.With(from(kClientPort, 80), data),
           Ipv6{.destination = kBackend6, .extensions = extensions}.With(from(kClientPort, 8080),
                                                                         data),
           "web", "w", "hit"},
          {"UDP over IPv6", there6.With(udp(kClientPort, 53), data),
           translated6.With(udp(kClientPort, 53), data), "dns", "d", "new"},
          {"its answer", answer6.With(udp(53, kClientPort), data),
           back6.With(udp(53, kClientPort), data), "dns", "d", "hit"},
          {"every protocol: no port, no checksum",
           Ipv4{.destination = "198.51.100.77", .protocol = 47}.Around(data),
           Ipv4{.destination = "10.0.0.77", .protocol = 47}.Around(data), "any", "a", "new"},
          {"its answer",
           Ipv4{.source = "10.0.0.77", .destination = kClient4, .protocol = 47}.Around(data),
           Ipv4{.source = "198.51.100.77", .destination = kClient4, .protocol = 47}.Around(data),
           "any", "a", "hit"},
          {"ICMP: its checksum has no pseudo header",
           Ipv4{.destination = "198.51.100.77"}.With(Icmp{.type = 13}, data),
           Ipv4{.destination = "10.0.0.77"}.With(Icmp{.type = 13}, data), "any", "a", "new"},
          {"ICMPv6: its checksum has one",
           Ipv6{.destination = "2001:db8:10::77"}.With(Icmpv6{.type = 144}, data),
           Ipv6{.destination = "2001:db8:b::77"}.With(Icmpv6{.type = 144}, data), "any", "a",
           "new"},
          {"its answer",
           Ipv6{.source = "2001:db8:b::77", .destination = kClient6}.With(Icmpv6{.type = 145},
                                                                          data),
           Ipv6{.source = "2001:db8:10::77", .destination = kClient6}.With(Icmpv6{.type = 145},
                                                                           data),
           "any", "a", "hit"},
      },
      path);
}

// Each value of a checksum once: what comes out is right for all, and 0 is never said by UDP.
TEST(Nat, ChecksumsOfEveryValue) {
  Path path(NatSnapshot());
  bool seen_ffff = false;
  for (uint32_t word = 0; word < 0x10000; word += 5) {
    const Bytes data = {static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word), 9};
    ASSERT_EQ(Hex(path.Send(Framed(Ipv4{}.With(Udp{}, data))).frame()),
              Hex(Sent(Ipv4{.destination = kBackend4}.With(Udp{}, data))));
    ASSERT_EQ(Hex(path.Send(Framed(Ipv6{}.With(Tcp{}, data))).frame()),
              Hex(Sent(Ipv6{.destination = kBackend6}.With(Tcp{.destination_port = 8080}, data))));
  }
  for (uint32_t word = 0; word < 0x10000 && !seen_ffff; ++word) {
    const Bytes data = {static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word)};
    const Bytes expected = Ipv4{.destination = kBackend4}.With(Udp{}, data);
    if (Get16(expected, 26) != 0xffff) continue;
    seen_ffff = true;
    EXPECT_EQ(Hex(path.Send(Framed(Ipv4{}.With(Udp{}, data))).frame()), Hex(Sent(expected)));
  }
  EXPECT_TRUE(seen_ffff) << "one of them has a sum of 0";
}

// A wrong checksum stays as wrong as it was: nobody made it right on the way.
TEST(Nat, AWrongChecksumStaysWrong) {
  Path path(NatSnapshot());
  const Bytes good = path.Send(Framed(Ipv4{}.With(Tcp{}, {1}))).frame();
  Bytes packet = Ipv4{}.With(Tcp{}, {1});
  packet[37] ^= 0x10;
  const Bytes bad = path.Send(Framed(packet)).frame();
  ASSERT_EQ(good.size(), bad.size());
  EXPECT_NE(Get16(good, 14 + 36), Get16(bad, 14 + 36));
}

TEST(Nat, WhatIsNoAnswerIsPunted) {
  const Ipv4 answer4 = {.source = kBackend4, .destination = kClient4};
  const Ipv6 answer6 = {.source = kBackend6, .destination = kClient6};
  const auto tcp = [](uint16_t port) { return Tcp{.source_port = port}; };
  struct {
    const char* what;
    Bytes in;
  } const rows[] = {
      {"to our own address: a probe's answer",
       Ipv4{.source = kBackend4, .destination = "10.0.0.1"}.With(tcp(8080))},
      {"the same of IPv6",
       Ipv6{.source = kBackend6, .destination = "2001:db8:b::1"}.With(tcp(8080))},
      {"UDP to our own address",
       Ipv4{.source = kBackend4, .destination = "10.0.0.1"}.With(Udp{.source_port = 53})},
      {"from another port", answer4.With(tcp(8081))},
      {"from the service's port, which is not the backend's", answer4.With(tcp(80))},
      {"of another protocol", answer4.With(Udp{.source_port = 8080})},
      {"over IPv6 from another port", answer6.With(tcp(22))},
      {"ICMP of the backend's own", answer4.With(Icmp{})},
      {"GRE", Ipv4{.source = kBackend4, .destination = kClient4, .protocol = 47}.Around({1})},
      {"from another host", Ipv4{.source = "10.0.0.12", .destination = kClient4}.With(tcp(8080))},
  };
  for (const auto& row : rows) {
    Path path(NatSnapshot());
    const Outcome outcome = path.Send(Framed(row.in));
    EXPECT_EQ(outcome.text(), "punt") << row.what;
    EXPECT_EQ(outcome.flow(), "none") << row.what;
    EXPECT_EQ(outcome.service, "") << row.what;
    EXPECT_EQ(outcome.backend, "") << row.what;
  }
}

// What a backend says to its neighbours is no answer, whatever protocols the service takes.
TEST(Nat, WhatStaysOnTheLinkIsPunted) {
  Path path(NatSnapshot());
  for (const char* to : {"224.0.0.5", "239.1.2.3", "255.255.255.255", "169.254.1.1"}) {
    const Ipv4 ip = {.source = "10.0.0.77", .destination = to};
    EXPECT_EQ(path.Send(Framed(ip.With(Udp{.source_port = 68}))).text(), "punt") << to;
    EXPECT_EQ(path.Send(Framed(ip.With(Icmp{}))).text(), "punt") << to;
  }
  for (const char* to : {"ff02::1:ff00:1", "ff0e::1", "fe80::1", "febf::1"}) {
    const Ipv6 ip = {.source = "2001:db8:b::77", .destination = to};
    EXPECT_EQ(path.Send(Framed(ip.With(Icmpv6{.type = 135}))).text(), "punt") << to;
    EXPECT_EQ(path.Send(Framed(ip.With(Udp{}))).text(), "punt") << to;
  }
  EXPECT_EQ(
      path.Send(Framed(Ipv6{.source = "2001:db8:b::77", .destination = "fec0::1"}.With(Udp{})))
          .text(),
      "forward");
}

TEST(Nat, NoRouteToTheClient) {
  Path path(MakeSnapshot(NatServices(), {.has_routes = false}));
  EXPECT_EQ(path.Send(Framed(Ipv4{.source = kBackend4, .destination = kClient4}.With(
                          Tcp{.source_port = 8080})))
                .text(),
            "drop no_next_hop");
}

// --- ICMP errors. `quote` cuts the quoted packet to its header and so many bytes.

struct ErrorRow {
  const char* what;
  Bytes quoted, quoted_after;
  size_t size;  // of the quote
};

// Packets that the client gets (from VIP and port) and that the backend had sent.
std::vector<ErrorRow> Answers4() {
  const Ipv4 from_vip = {.source = kVip4, .destination = kClient4, .ttl = 1},
             from_backend = {.source = kBackend4, .destination = kClient4, .ttl = 1};
  const Tcp tcp = {.source_port = 80, .destination_port = kClientPort},
            tcp_after = {.source_port = 8080, .destination_port = kClientPort};
  const Udp udp = {.source_port = 53, .destination_port = kClientPort};
  Udp no_sum = udp;
  no_sum.checksum = 0;
  const Bytes data = Counting(40);
  return {
      {"all of a TCP packet", from_vip.With(tcp, data), from_backend.With(tcp_after, data), 80},
      {"an odd length", from_vip.With(tcp, data), from_backend.With(tcp_after, data), 79},
      {"TCP's first 8 bytes", from_vip.With(tcp, data), from_backend.With(tcp_after, data), 28},
      {"up to TCP's checksum", from_vip.With(tcp, data), from_backend.With(tcp_after, data), 38},
      {"up to before it", from_vip.With(tcp, data), from_backend.With(tcp_after, data), 36},
      {"UDP", from_vip.With(udp, data), from_backend.With(udp, data), 68},
      {"UDP's header", from_vip.With(udp, data), from_backend.With(udp, data), 28},
      {"UDP without a checksum", from_vip.With(no_sum, data), from_backend.With(no_sum, data), 28},
  };
}

std::vector<ErrorRow> Answers6() {
  const Ipv6 from_vip = {.source = kVip6, .destination = kClient6, .hop_limit = 1},
             from_backend = {.source = kBackend6, .destination = kClient6, .hop_limit = 1};
  const Tcp tcp = {.source_port = 80, .destination_port = kClientPort},
            tcp_after = {.source_port = 8080, .destination_port = kClientPort};
  const Udp udp = {.source_port = 53, .destination_port = kClientPort};
  const Bytes data = Counting(40);
  return {
      {"all of a TCP packet", from_vip.With(tcp, data), from_backend.With(tcp_after, data), 100},
      {"TCP's first 8 bytes", from_vip.With(tcp, data), from_backend.With(tcp_after, data), 48},
      {"UDP, an odd length", from_vip.With(udp, data), from_backend.With(udp, data), 87},
      {"UDP's header", from_vip.With(udp, data), from_backend.With(udp, data), 48},
  };
}

// The other way: what the client had sent, as the backend gets it.
std::vector<ErrorRow> Requests4() {
  const Ipv4 to_backend = {.destination = kBackend4, .ttl = 1}, to_vip = {.ttl = 1};
  const Tcp tcp = {.source_port = kClientPort, .destination_port = 8080},
            tcp_after = {.source_port = kClientPort, .destination_port = 80};
  const Udp udp = {.source_port = kClientPort, .destination_port = 5003};
  Udp no_sum = udp;
  no_sum.checksum = 0;
  const Bytes data = Counting(40);
  return {
      {"all of a TCP packet", to_backend.With(tcp, data), to_vip.With(tcp_after, data), 80},
      {"an odd length", to_backend.With(tcp, data), to_vip.With(tcp_after, data), 79},
      {"TCP's first 8 bytes", to_backend.With(tcp, data), to_vip.With(tcp_after, data), 28},
      {"UDP", to_backend.With(udp, data), to_vip.With(udp, data), 68},
      {"UDP's header", to_backend.With(udp, data), to_vip.With(udp, data), 28},
      {"UDP without a checksum", to_backend.With(no_sum, data), to_vip.With(no_sum, data), 28},
  };
}

std::vector<ErrorRow> Requests6() {
  const Ipv6 to_backend = {.destination = kBackend6, .hop_limit = 1}, to_vip = {.hop_limit = 1};
  const Tcp tcp = {.source_port = kClientPort, .destination_port = 8080},
            tcp_after = {.source_port = kClientPort, .destination_port = 80};
  const Udp udp = {.source_port = kClientPort, .destination_port = 5003};
  const Bytes data = Counting(40);
  return {
      {"all of a TCP packet", to_backend.With(tcp, data), to_vip.With(tcp_after, data), 100},
      {"TCP's first 8 bytes", to_backend.With(tcp, data), to_vip.With(tcp_after, data), 48},
      {"UDP, an odd length", to_backend.With(udp, data), to_vip.With(udp, data), 87},
  };
}

const Icmp kErrors4[] = {{.type = 3, .code = 1, .rest = 0},
                         {.type = 3, .code = 4, .rest = 1400},
                         {.type = 11, .code = 0, .rest = 0},
                         {.type = 12, .code = 0, .rest = 0x14000000}};
const Icmpv6 kErrors6[] = {{.type = 1, .code = 4, .rest = 0},
                           {.type = 2, .code = 0, .rest = 1400},
                           {.type = 3, .code = 0, .rest = 0},
                           {.type = 4, .code = 1, .rest = 40}};

TEST(Nat, ErrorsFromTheClientsSideReachTheBackend) {
  for (const ErrorRow& row : Answers4()) {
    for (const Icmp& error : kErrors4) {
      for (const char* source : {kClient4, kRouter4}) {
        Path path(NatSnapshot());
        const Outcome outcome =
            path.Send(Framed(Ipv4{.source = source}.With(error, Slice(row.quoted, 0, row.size))));
        EXPECT_EQ(outcome.text(), "forward") << row.what;
        EXPECT_EQ(outcome.flow(), "none") << "nothing is known of the connection";
        EXPECT_EQ(Hex(outcome.frame()),
                  Hex(Sent(Ipv4{.source = source, .destination = kBackend4}.With(
                      error, Slice(row.quoted_after, 0, row.size)))))
            << row.what;
      }
    }
  }
  for (const ErrorRow& row : Answers6()) {
    for (const Icmpv6& error : kErrors6) {
      for (const char* source : {kClient6, kRouter6}) {
        Path path(NatSnapshot());
        const Outcome outcome =
            path.Send(Framed(Ipv6{.source = source}.With(error, Slice(row.quoted, 0, row.size))));
        EXPECT_EQ(outcome.text(), "forward") << row.what;
        EXPECT_EQ(Hex(outcome.frame()),
                  Hex(Sent(Ipv6{.source = source, .destination = kBackend6}.With(
                      error, Slice(row.quoted_after, 0, row.size)))))
            << row.what;
      }
    }
  }
}

// With several backends it is the one that has the connection.
TEST(Nat, ErrorsReachTheBackendOfTheirConnection) {
  Path path(MakeSnapshot({{.backends = {{"b0", "10.0.0.100"}, {"b1", "10.0.0.101"}},
                           .scheduler = Scheduler::kRoundRobin,
                           .forwarding = Forwarding::kNat}}));
  for (uint16_t port = 1; port <= 6; ++port) {
    const std::string backend =
        path.Send(Framed(Ipv4{}.With(Tcp{.source_port = port, .flags = kSyn}))).backend;
    const std::string address = backend == "b0" ? "10.0.0.100" : "10.0.0.101";
    const auto answer = [&](const char* source) {
      return Ipv4{.source = source, .destination = kClient4}.With(
          Tcp{.source_port = 80, .destination_port = port});
    };
    const Outcome outcome =
        path.Send(Framed(Ipv4{.source = kRouter4}.With(kErrors4[0], answer(kVip4))));
    EXPECT_EQ(outcome.backend, backend);
    EXPECT_EQ(outcome.flow(), "hit");
    EXPECT_EQ(Hex(outcome.frame()),
              Hex(Sent(Ipv4{.source = kRouter4, .destination = address.c_str()}.With(
                  kErrors4[0], answer(address.c_str())))));
  }
}

TEST(Nat, ErrorsFromTheBackendsSideReachTheClient) {
  for (const ErrorRow& row : Requests4()) {
    for (const Icmp& error : kErrors4) {
      for (const char* source : {kBackend4, kRouter4}) {
        Path path(NatSnapshot());
        const Outcome outcome =
            path.Send(Framed(Ipv4{.source = source, .destination = kClient4}.With(
                error, Slice(row.quoted, 0, row.size))));
        EXPECT_EQ(outcome.text(), "forward") << row.what << " from " << source;
        EXPECT_EQ(outcome.flow(), "hit");
        EXPECT_EQ(Hex(outcome.frame()),
                  Hex(Sent(Ipv4{.source = kVip4, .destination = kClient4}.With(
                      error, Slice(row.quoted_after, 0, row.size)))))
            << row.what << " from " << source;
      }
    }
  }
  for (const ErrorRow& row : Requests6()) {
    for (const Icmpv6& error : kErrors6) {
      for (const char* source : {kBackend6, kRouter6}) {
        Path path(NatSnapshot());
        const Outcome outcome =
            path.Send(Framed(Ipv6{.source = source, .destination = kClient6}.With(
                error, Slice(row.quoted, 0, row.size))));
        EXPECT_EQ(outcome.text(), "forward") << row.what << " from " << source;
        EXPECT_EQ(outcome.flow(), "hit");
        EXPECT_EQ(Hex(outcome.frame()),
                  Hex(Sent(Ipv6{.source = kVip6, .destination = kClient6}.With(
                      error, Slice(row.quoted_after, 0, row.size)))))
            << row.what << " from " << source;
      }
    }
  }
}

TEST(Nat, ErrorsThatAreNotOursArePunted) {
  const Icmp error = {.type = 3, .code = 1, .rest = 0};
  const Bytes ours =
      Ipv4{.destination = kBackend4}.With(Tcp{.destination_port = 8080}, Counting(8));
  struct {
    const char* what;
    Bytes in;
  } const rows[] = {
      {"to our own address: about a probe",
       Ipv4{.source = kRouter4, .destination = "10.0.0.1"}.With(
           error, Ipv4{.source = "10.0.0.1", .destination = kBackend4}.With(
                      Tcp{.destination_port = 8080}))},
      {"to another than who sent what it quotes",
       Ipv4{.source = kRouter4, .destination = "203.0.113.8"}.With(error, ours)},
      {"about another port of the backend's",
       Ipv4{.source = kRouter4, .destination = kClient4}.With(
           error, Ipv4{.destination = kBackend4}.With(Tcp{.destination_port = 22}))},
      {"about another host",
       Ipv4{.source = kRouter4, .destination = kClient4}.With(
           error, Ipv4{.destination = "10.0.0.12"}.With(Tcp{.destination_port = 8080}))},
      {"quoting too little",
       Ipv4{.source = kRouter4, .destination = kClient4}.With(error, Slice(ours, 0, 27))},
      {"quoting nothing", Ipv4{.source = kBackend4, .destination = kClient4}.With(error)},
  };
  for (const auto& row : rows) {
    Path path(NatSnapshot());
    EXPECT_EQ(path.Send(Framed(row.in)).text(), "punt") << row.what;
  }
}

// --- fragments: the ports are in the first, the addresses in all.

TEST(Nat, FragmentsBothWays) {
  const Bytes data = Counting(100);
  struct {
    const char* what;
    std::vector<Bytes> in, out;
    const char* backend;
  } const rows[] = {
      {"UDP, to the backend",
       FragmentsOf(Ipv4{.protocol = 17}, Slice(Ipv4{}.With(Udp{}, data), 20), {48, 96}),
       FragmentsOf(Ipv4{.destination = kBackend4, .protocol = 17},
                   Slice(Ipv4{.destination = kBackend4}.With(Udp{}, data), 20), {48, 96}),
       "d"},
      {"TCP, to the backend, with another port",
       FragmentsOf(Ipv4{}, Slice(Ipv4{}.With(Tcp{}, data), 20), {24, 32}),
       FragmentsOf(
           Ipv4{.destination = kBackend4},
           Slice(Ipv4{.destination = kBackend4}.With(Tcp{.destination_port = 8080}, data), 20),
           {24, 32}),
       "w"},
      {"TCP, back",
       FragmentsOf(Ipv4{.source = kBackend4, .destination = kClient4},
                   Slice(Ipv4{.source = kBackend4, .destination = kClient4}.With(
                             Tcp{.source_port = 8080}, data),
                         20),
                   {24, 32}),
       FragmentsOf(
           Ipv4{.source = kVip4, .destination = kClient4},
           Slice(Ipv4{.source = kVip4, .destination = kClient4}.With(Tcp{.source_port = 80}, data),
                 20),
           {24, 32}),
       "w"},
      {"UDP over IPv6, to the backend",
       FragmentsOf(Ipv6{.next_header = 17}, Slice(Ipv6{}.With(Udp{}, data), 40), {48, 96}),
       FragmentsOf(Ipv6{.destination = kBackend6, .next_header = 17},
                   Slice(Ipv6{.destination = kBackend6}.With(Udp{}, data), 40), {48, 96}),
       "d"},
      {"UDP over IPv6, back",
       FragmentsOf(Ipv6{.source = kBackend6, .destination = kClient6, .next_header = 17},
                   Slice(Ipv6{.source = kBackend6, .destination = kClient6}.With(
                             Udp{.source_port = 53}, data),
                         40),
                   {48, 96}),
       FragmentsOf(
           Ipv6{.source = kVip6, .destination = kClient6, .next_header = 17},
           Slice(Ipv6{.source = kVip6, .destination = kClient6}.With(Udp{.source_port = 53}, data),
                 40),
           {48, 96}),
       "d"},
  };
  for (const auto& row : rows) {
    // In order, and with the first one last.
    Path path(NatSnapshot()), backwards(NatSnapshot());
    for (size_t n = 0; n < row.in.size(); ++n) {
      const Outcome outcome = path.Send(Framed(row.in[n]));
      EXPECT_EQ(outcome.text(), "forward") << row.what;
      EXPECT_EQ(outcome.backend, row.backend) << row.what;
      EXPECT_EQ(Hex(outcome.frame()), Hex(Sent(row.out[n]))) << row.what << ", fragment " << n;
    }
    for (size_t n = row.in.size(); n-- > 1;) {
      EXPECT_EQ(backwards.Send(Framed(row.in[n])).text(), "held") << row.what;
    }
    EXPECT_EQ(Hex(backwards.Send(Framed(row.in[0])).frame()), Hex(Sent(row.out[0]))) << row.what;
    ASSERT_EQ(backwards.released().size(), 2u) << row.what;
    EXPECT_EQ(Hex(backwards.released()[0].frame()), Hex(Sent(row.out[2]))) << row.what;
    EXPECT_EQ(Hex(backwards.released()[1].frame()), Hex(Sent(row.out[1]))) << row.what;
  }
}

TEST(Nat, FragmentsOfABackendThatAreNoAnswerArePunted) {
  for (const char* to : {kClient4, "10.0.0.1"}) {
    Path path(NatSnapshot());
    for (const Bytes& fragment : FragmentsOf(Ipv4{.source = kBackend4, .destination = to},
                                             Tcp{.source_port = 22}.Around(Counting(40)), {24})) {
      EXPECT_EQ(path.Send(Framed(fragment)).text(), "punt");
    }
  }
  Path path(NatSnapshot());
  const Bytes later = FragmentsOf(Ipv4{.source = kBackend4, .destination = kClient4},
                                  Tcp{.source_port = 8080}.Around(Counting(40)), {24})[1];
  EXPECT_EQ(path.Send(Framed(later)).text(), "held");
  path.TakeHeld(true);
  EXPECT_EQ(path.released()[0].text(), "punt") << "its first one never came";
}

TEST(Nat, ALaterFragmentToOurOwnAddressIsPuntedAtOnce) {
  Path path(NatSnapshot());
  const Bytes later = FragmentsOf(Ipv4{.source = kBackend4, .destination = "10.0.0.1"},
                                  Tcp{.source_port = 8080}.Around(Counting(40)), {24})[1];
  EXPECT_EQ(path.Send(Framed(later)).text(), "punt");
}

}  // namespace
}  // namespace guideway
