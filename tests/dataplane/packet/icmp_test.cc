// ICMP to a VIP: echo is answered (RFC 792, RFC 4443), errors about a connection go where it goes.
#include <gtest/gtest.h>

#include "tests/dataplane/packet/rows.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

TEST(Echo, AnsweredByteForByte) {
  const char* const in_prefix = "198.51.100.130";
  std::vector<TestService> services = Services();
  services.push_back(
      {.name = "prefix", .vips = {"198.51.100.128/25"}, .backends = {{"p", kBackend4}}});
  const Ipv4 reply4 = {.source = kVip4, .destination = kClient4, .ttl = 64, .identification = 0};
  Ipv4 from_prefix = reply4;
  from_prefix.source = in_prefix;
  const Ipv6 reply6 = {.source = kVip6, .destination = kClient6, .hop_limit = 64};
  struct {
    const char* what;
    Bytes in, out;
  } const rows[] = {
      {"no data", Ipv4{}.With(Icmp{}), reply4.With(Icmp{.type = 0})},
      {"data", Ipv4{}.With(Icmp{}, Counting(56)), reply4.With(Icmp{.type = 0}, Counting(56))},
      {"an odd length", Ipv4{}.With(Icmp{}, Counting(57)),
       reply4.With(Icmp{.type = 0}, Counting(57))},
      {"identifier and sequence number", Ipv4{}.With(Icmp{.rest = 0xfedc9876}),
       reply4.With(Icmp{.type = 0, .rest = 0xfedc9876})},
      {"a checksum of 0", Ipv4{}.With(Icmp{.rest = 0xf7ff0000}),
       reply4.With(Icmp{.type = 0, .rest = 0xf7ff0000})},
      {"TTL 1 and without DF", Ipv4{.ttl = 1, .dont_fragment = false}.With(Icmp{}),
       reply4.With(Icmp{.type = 0})},
      {"IP options", Ipv4{.options = Bytes(8, 1)}.With(Icmp{}, Counting(9)),
       reply4.With(Icmp{.type = 0}, Counting(9))},
      {"to an address of a prefix", Ipv4{.destination = in_prefix}.With(Icmp{}),
       from_prefix.With(Icmp{.type = 0})},
      {"as large as the MTU", Ipv4{}.With(Icmp{}, Counting(1472)),
       reply4.With(Icmp{.type = 0}, Counting(1472))},
      {"IPv6, no data", Ipv6{}.With(Icmpv6{}), reply6.With(Icmpv6{.type = 129})},
      {"IPv6, an odd length", Ipv6{.hop_limit = 1}.With(Icmpv6{}, Counting(57)),
       reply6.With(Icmpv6{.type = 129}, Counting(57))},
      {"IPv6 with extension headers",
       Ipv6{.extensions = {ExtensionHeader(0), ExtensionHeader(60, 1)}}.With(Icmpv6{}, Counting(8)),
       reply6.With(Icmpv6{.type = 129}, Counting(8))},
      {"IPv6 with a fragment header around a whole packet",
       Ipv6{.extensions = {FragmentHeader(0, false)}}.With(Icmpv6{}, Counting(8)),
       reply6.With(Icmpv6{.type = 129}, Counting(8))},
  };
  Path path(MakeSnapshot(services));
  for (const auto& row : rows) {
    const Outcome outcome = path.Send(Framed(row.in));
    EXPECT_EQ(outcome.text(), "reply") << row.what;
    EXPECT_EQ(Hex(outcome.frame()), Hex(Sent(row.out))) << row.what;
    EXPECT_EQ(outcome.flow(), "none") << row.what;
    EXPECT_EQ(outcome.backend, "") << row.what;
  }
  EXPECT_EQ(path.counters().flow_count(), 0u);
}

TEST(Echo, OtherOutcomes) {
  struct {
    const char* what;
    Bytes in;
    const char* outcome;
  } const rows[] = {
      {"wrong checksum", Ipv4{}.With(Icmp{.checksum = uint16_t{1}}), "drop malformed"},
      {"wrong ICMPv6 checksum", Ipv6{}.With(Icmpv6{.checksum = uint16_t{1}}), "drop malformed"},
      {"wrong checksum of another type",
       Ipv4{.destination = "198.51.100.77"}.With(Icmp{.type = 13, .checksum = uint16_t{1}}),
       "drop malformed"},
      {"not to a VIP", Ipv4{.destination = "10.1.1.1"}.With(Icmp{}), "punt"},
      {"not to a VIP, wrong checksum",
       Ipv4{.destination = "10.1.1.1"}.With(Icmp{.checksum = uint16_t{1}}), "punt"},
      {"not to a VIP, IPv6", Ipv6{.destination = "2001:db8:10::99"}.With(Icmpv6{}), "punt"},
      {"not to a VIP, wrong ICMPv6 checksum",
       Ipv6{.destination = "2001:db8:10::99"}.With(Icmpv6{.checksum = uint16_t{1}}), "punt"},
      {"larger than the MTU of the way back", Ipv4{}.With(Icmp{}, Counting(1473)), "drop too_big"},
      {"a first fragment: nothing that can be answered",
       Ipv4{.dont_fragment = false, .more_fragments = true}.With(Icmp{}, Counting(16)),
       "drop port_not_served"},
  };
  for (const auto& row : rows) {
    Path path(MakeSnapshot(Services()));
    EXPECT_EQ(path.Send(Framed(row.in)).text(), row.outcome) << row.what;
  }
  Path lost(MakeSnapshot(Services(), {.has_routes = false}));
  EXPECT_EQ(lost.Send(Framed(Ipv4{}.With(Icmp{}))).text(), "drop no_next_hop");
}

TEST(Echo, IsLimited) {
  Path path(MakeSnapshot(Services(), {.replies_per_second = 4}));
  const auto send = [&](int count) {
    int replies = 0;
    for (int n = 0; n < count; ++n) {
      const std::string text =
          path.Send(Framed(n % 2 == 0 ? Ipv4{}.With(Icmp{}) : Ipv6{}.With(Icmpv6{}))).text();
      EXPECT_EQ(text, n < 4 ? "reply" : "drop rate_limited");
      replies += text == "reply" ? 1 : 0;
    }
    return replies;
  };
  EXPECT_EQ(send(10), 4);
  path.now += kTicksPerSecond;
  EXPECT_EQ(send(10), 4);
  Path none(MakeSnapshot(Services(), {.replies_per_second = 0}));
  EXPECT_EQ(none.Send(Framed(Ipv4{}.With(Icmp{}))).text(), "drop rate_limited");
}

// --- errors about a connection

std::vector<TestService> InTurns() {
  std::vector<TestService> services = ServicesWithBackends(5);
  for (TestService& service : services) service.scheduler = Scheduler::kRoundRobin;
  return services;
}

// The error that quotes the first `size` bytes of the VIP's answer to a client's port.
Bytes Error4(uint8_t type, uint16_t client_port, size_t size = 28, bool udp = false) {
  const Ipv4 answer = {.source = kVip4, .destination = kClient4, .ttl = 1};
  const Bytes quoted =
      udp ? answer.With(Udp{.source_port = 53, .destination_port = client_port}, Counting(40))
          : answer.With(Tcp{.source_port = 80, .destination_port = client_port}, Counting(40));
  return Framed(Ipv4{.source = "192.0.2.99"}.With(Icmp{.type = type, .code = 1, .rest = 0},
                                                  Slice(quoted, 0, size)));
}
Bytes Error6(uint8_t type, uint16_t client_port, size_t size = 48, bool udp = false) {
  const Ipv6 answer = {.source = kVip6, .destination = kClient6, .hop_limit = 1};
  const Bytes quoted =
      udp ? answer.With(Udp{.source_port = 53, .destination_port = client_port}, Counting(40))
          : answer.With(Tcp{.source_port = 80, .destination_port = client_port}, Counting(40));
  return Framed(Ipv6{.source = "2001:db8:99::1"}.With(Icmpv6{.type = type, .rest = 0},
                                                      Slice(quoted, 0, size)));
}

TEST(IcmpErrors, GoWhereTheirConnectionGoes) {
  Path path(MakeSnapshot(InTurns()));
  for (uint16_t port = 1; port <= 40; ++port) {
    const std::string backends[] = {
        path.Send(Framed(Ipv4{}.With(Tcp{.source_port = port, .flags = kSyn}))).backend,
        path.Send(Framed(Ipv4{}.With(Udp{.source_port = port}))).backend,
        path.Send(Framed(Ipv6{}.With(Tcp{.source_port = port, .flags = kSyn}))).backend,
        path.Send(Framed(Ipv6{}.With(Udp{.source_port = port}))).backend};
    const auto check = [&](const Bytes& error, const std::string& backend) {
      const Outcome outcome = path.Send(error);
      EXPECT_EQ(outcome.text(), "forward");
      EXPECT_EQ(outcome.backend, backend);
      EXPECT_EQ(outcome.flow(), "hit");
      EXPECT_EQ(Hex(Slice(outcome.frame(), 34)), Hex(Unframed(error))) << "as it was";
    };
    for (const uint8_t type : {3, 11, 12}) {
      for (const size_t size : {28, 29, 80}) {
        check(Error4(type, port, size), backends[0]);
        check(Error4(type, port, size, true), backends[1]);
      }
    }
    for (const uint8_t type : {1, 2, 3, 4}) {
      for (const size_t size : {48, 49, 100}) {
        check(Error6(type, port, size), backends[2]);
        check(Error6(type, port, size, true), backends[3]);
      }
    }
  }
}

TEST(IcmpErrors, OfAConnectionOfAnotherWorkers) {
  const auto snapshot = MakeSnapshot(InTurns());
  Path path(snapshot, 1024, 2);
  Pipeline other(path.shared(), 1);
  // Two connections at the other worker: the second turn's backend is not the first's.
  auto burst = std::make_unique<Burst>();
  for (uint16_t port = 1; port <= 8; ++port) {
    Bytes buffer = Joined(Bytes(Frame::kHeadroom),
                          Framed(Ipv4{}.With(Tcp{.source_port = port, .flags = kSyn})));
    burst->size = 1;
    burst->packets[0].frame = {.data = buffer.data() + Frame::kHeadroom,
                               .length = static_cast<uint32_t>(buffer.size() - Frame::kHeadroom)};
    other.Process(*snapshot, path.now_ns(), *burst);
    const std::string backend = burst->BackendOf(burst->packets[0])->name;
    const Outcome outcome = path.Send(Error4(3, port));
    EXPECT_EQ(outcome.backend, backend);
    EXPECT_EQ(outcome.flow(), "hit");
  }
}

TEST(IcmpErrors, OfAnUnknownConnectionGoWhereTheHashSays) {
  Path by_hash(MakeSnapshot(ServicesWithBackends(5))), path(MakeSnapshot(InTurns()));
  for (uint16_t port = 1; port <= 40; ++port) {
    struct {
      Bytes packet, error;
    } const rows[] = {
        {Ipv4{}.With(Tcp{.source_port = port}), Error4(3, port)},
        {Ipv4{}.With(Udp{.source_port = port}), Error4(11, port, 28, true)},
        {Ipv6{}.With(Tcp{.source_port = port}), Error6(1, port)},
        {Ipv6{}.With(Udp{.source_port = port}), Error6(3, port, 48, true)},
    };
    for (const auto& row : rows) {
      const Outcome outcome = path.Send(row.error);
      EXPECT_EQ(outcome.text(), "forward");
      EXPECT_EQ(outcome.flow(), "none");
      EXPECT_EQ(outcome.backend, by_hash.Send(Framed(row.packet)).backend);
    }
  }
  EXPECT_EQ(path.counters().flow_count(), 0u) << "an error opens nothing";
}

TEST(IcmpErrors, ChangeNothingAboutTheirConnection) {
  std::vector<TestService> services = InTurns();
  Path path(MakeSnapshot(services, {.timeouts = {.tcp_handshake_s = 10}}));
  path.Send(Framed(Ipv4{}.With(Tcp{.source_port = 1, .flags = kSyn})));
  for (int n = 0; n < 10; ++n) {
    path.now += kTicksPerSecond;
    EXPECT_EQ(path.Send(Error4(3, 1)).flow(), "hit");
  }
  path.now += 1;
  EXPECT_EQ(path.Send(Error4(3, 1)).flow(), "none") << "its time was not prolonged";
  path.SweepAll();
  EXPECT_EQ(path.counters().flow_count(), 0u);

  // A connection of a backend that is down is not moved by an error.
  path.Send(Framed(Ipv4{}.With(Tcp{.source_port = 2, .flags = kSyn})));
  const std::string backend = path.Send(Error4(3, 2)).backend;
  for (TestBackend& b : services[0].backends) {
    if (b.name == backend) b.state = BackendState::kDown;
  }
  path.Use(MakeSnapshot(services, {.version = 2}));
  const Outcome elsewhere = path.Send(Error4(3, 2));
  EXPECT_EQ(elsewhere.text(), "forward");
  EXPECT_NE(elsewhere.backend, backend);
  EXPECT_EQ(elsewhere.flow(), "none");
  path.Use(MakeSnapshot(InTurns(), {.version = 3}));
  EXPECT_EQ(path.Send(Error4(3, 2)).backend, backend);
}

TEST(IcmpErrors, ThatAreNoConnectionsOfOurs) {
  const Icmp error = {.type = 3, .code = 1, .rest = 0};
  const Icmpv6 error6 = {.type = 1, .rest = 0};
  const Ipv4 answer = {.source = kVip4, .destination = kClient4};
  const Ipv6 answer6 = {.source = kVip6, .destination = kClient6};
  const Bytes good = answer.With(Tcp{.source_port = 80}, Counting(20));
  const Bytes good6 = answer6.With(Tcp{.source_port = 80}, Counting(20));
  const auto about = [&](const Bytes& quoted) { return Ipv4{}.With(error, quoted); };
  const auto about6 = [&](const Bytes& quoted) { return Ipv6{}.With(error6, quoted); };
  const auto with_byte = [](Bytes bytes, size_t at, uint8_t value) {
    bytes[at] = value;
    return bytes;
  };
  struct {
    const char* what;
    Bytes in;
    const char* outcome;
  } const rows[] = {
      {"all is well", about(good), "forward"},
      {"the quoted header's checksum does not matter: routers change the TTL",
       about(with_byte(good, 8, 3)), "forward"},
      {"a port that is not served", about(answer.With(Tcp{.source_port = 81})),
       "drop port_not_served"},
      {"a protocol that is not served",
       about(Ipv4{.source = kVip4, .destination = kClient4, .protocol = 47}.Around(Counting(20))),
       "drop port_not_served"},
      {"from another address than the VIP it comes to",
       about(Ipv4{.source = "198.51.100.77", .destination = kClient4}.With(Tcp{.source_port = 80})),
       "drop port_not_served"},
      {"quoting nothing", about({}), "drop malformed"},
      {"half an IP header", about(Slice(good, 0, 19)), "drop malformed"},
      {"an IP header alone", about(Slice(good, 0, 20)), "drop malformed"},
      {"7 bytes of TCP", about(Slice(good, 0, 27)), "drop malformed"},
      {"a header of 4 words", about(with_byte(good, 0, 0x44)), "drop malformed"},
      {"a version 5", about(with_byte(good, 0, 0x55)), "drop malformed"},
      {"wrong checksum of the error",
       Ipv4{}.With(Icmp{.type = 3, .rest = 0, .checksum = uint16_t{1}}, good), "drop malformed"},
      {"IPv6: all is well", about6(good6), "forward"},
      {"IPv6: a port that is not served", about6(answer6.With(Tcp{.source_port = 81})),
       "drop port_not_served"},
      {"IPv6: quoting nothing", about6({}), "drop malformed"},
      {"IPv6: half an IP header", about6(Slice(good6, 0, 39)), "drop malformed"},
      {"IPv6: 7 bytes of TCP", about6(Slice(good6, 0, 47)), "drop malformed"},
      {"IPv6: extension headers in the quote",
       about6(Ipv6{.source = kVip6, .destination = kClient6, .extensions = {ExtensionHeader(60)}}
                  .With(Tcp{.source_port = 80})),
       "forward"},
      {"IPv6: nine of them",
       about6(Ipv6{.source = kVip6,
                   .destination = kClient6,
                   .extensions = std::vector<Extension>(9, ExtensionHeader(60))}
                  .With(Tcp{.source_port = 80})),
       "drop malformed"},
      {"IPv6: wrong checksum of the error",
       Ipv6{}.With(Icmpv6{.type = 1, .rest = 0, .checksum = uint16_t{1}}, good6), "drop malformed"},
  };
  for (const auto& row : rows) {
    Path path(MakeSnapshot(Services()));
    EXPECT_EQ(path.Send(Framed(row.in)).text(), row.outcome) << row.what;
    EXPECT_EQ(path.counters().flow_count(), 0u) << row.what;
  }
}

TEST(IcmpErrors, ForAServiceOfAllProtocols) {
  Path path(MakeSnapshot(Services()));
  const char* const vip = "198.51.100.77";
  const Ipv4 answer = {.source = vip, .destination = kClient4, .protocol = 47};
  EXPECT_EQ(path.Send(Framed(Ipv4{.destination = vip, .protocol = 47}.Around(Counting(30)))).flow(),
            "new");
  EXPECT_EQ(path.Send(Framed(Ipv4{.destination = vip}.With(Icmp{.type = 3, .rest = 0},
                                                           answer.Around(Counting(30)))))
                .flow(),
            "hit");
}

// A later fragment has no ports, so nobody can say whose it was; of a protocol without ports the
// addresses are all.
TEST(IcmpErrors, QuotingALaterFragment) {
  Path path(MakeSnapshot({{.vips = {kVip4},
                           .protocol = Protocol::kAny,
                           .backends = {{"a", "10.0.0.1"}, {"b", "10.0.0.2"}}}}));
  for (const uint8_t protocol : {6, 17, 47}) {
    const Ipv4 quoted = {.source = kVip4,
                         .destination = "203.0.113.7",
                         .protocol = protocol,
                         .dont_fragment = false,
                         .fragment_offset = 100};
    const Bytes error = Ipv4{.source = "192.0.2.99", .destination = kVip4, .protocol = 1}.Around(
        Icmp{.type = 11}.Around(quoted.Around(Counting(8))));
    EXPECT_EQ(path.Send(Framed(error)).text(), protocol == 47 ? "forward" : "drop port_not_served");
  }
}

TEST(IcmpErrors, WithoutABackend) {
  Path path(MakeSnapshot(
      {{.backends = {{.name = "b", .address = kBackend4, .state = BackendState::kDown}}}}));
  EXPECT_EQ(path.Send(Error4(3, 1)).text(), "drop no_backend");
}

}  // namespace
}  // namespace guideway
