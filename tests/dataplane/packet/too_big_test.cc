// Packets that do not fit: told to their sender (RFC 1191, RFC 4443, RFC 8201), or cut into
// fragments after encapsulation (RFC 2003, RFC 2473), or before they go on without one (RFC 791);
// and what routers say of the way to a backend.
#include <gtest/gtest.h>

#include <set>

#include "tests/dataplane/packet/rows.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

// A packet of exactly `size` bytes, the IP header included.
Bytes PacketOf4(size_t size, Ipv4 ip = {}) {
  return ip.With(Tcp{}, Counting(size - 40 - ip.options.size()));
}
Bytes PacketOf6(size_t size, Ipv6 ip = {}) { return ip.With(Tcp{}, Counting(size - 60)); }

// The answers: from the VIP, TTL 64, quoting as much as fits 576 and 1280 bytes.
Bytes FragmentationNeeded(const Bytes& packet, uint32_t mtu, const char* from = kVip4,
                          const char* to = kClient4) {
  return Sent(Ipv4{.source = from, .destination = to, .ttl = 64, .identification = 0}.With(
      Icmp{.type = 3, .code = 4, .rest = mtu}, Slice(packet, 0, 548)));
}
Bytes PacketTooBig(const Bytes& packet, uint32_t mtu, const char* from = kVip6,
                   const char* to = kClient6) {
  return Sent(Ipv6{.source = from, .destination = to, .hop_limit = 64}.With(
      Icmpv6{.type = 2, .rest = mtu}, Slice(packet, 0, 1232)));
}

struct Place {
  Forwarding forwarding;
  const char* backend;
};
std::vector<Place> Places() {
  std::vector<Place> places;
  for (const Forwarding forwarding : kTunnels) {
    places.push_back({forwarding, kBackend4});
    places.push_back({forwarding, kBackend6});
  }
  return places;
}
std::string Name(const Place& place) {
  return absl::StrCat(std::string(ForwardingName(place.forwarding)), " to ", place.backend);
}

TEST(TooBig, TheSenderIsTold) {
  for (const Place& place : Places()) {
    const size_t outer = OuterSizeOf(place.forwarding, place.backend == kBackend6);
    const size_t most = 1500 - outer;
    const auto told = static_cast<uint32_t>(most);
    Path path(MakeSnapshot(Services(place.forwarding, place.backend)));
    EXPECT_EQ(path.Send(Framed(PacketOf4(most))).text(), "forward") << Name(place);
    EXPECT_EQ(path.Send(Framed(PacketOf6(most))).text(), "forward") << Name(place);
    struct {
      const char* what;
      Bytes in, out;
    } const rows[] = {
        {"IPv4, one byte too many", PacketOf4(most + 1),
         FragmentationNeeded(PacketOf4(most + 1), told)},
        {"IPv4, many", PacketOf4(9000), FragmentationNeeded(PacketOf4(9000), told)},
        {"IPv4 with options", PacketOf4(most + 1, {.options = Bytes(8, 1)}),
         FragmentationNeeded(PacketOf4(most + 1, {.options = Bytes(8, 1)}), told)},
        {"IPv6, one byte too many", PacketOf6(most + 1), PacketTooBig(PacketOf6(most + 1), told)},
        {"IPv6, many", PacketOf6(9000), PacketTooBig(PacketOf6(9000), told)},
    };
    for (const auto& row : rows) {
      const Outcome outcome = path.Send(Framed(row.in));
      EXPECT_EQ(outcome.text(), "reply") << row.what << ", " << Name(place);
      EXPECT_EQ(Hex(outcome.frame()), Hex(row.out)) << row.what << ", " << Name(place);
    }
    const std::vector<Vlan> tags = {{0x88a8, 5}, {0x8100, 7}};
    EXPECT_EQ(Hex(path.Send(Framed(PacketOf4(9000), tags)).frame()),
              Hex(Sent(Unframed(FragmentationNeeded(PacketOf4(9000), told)), tags)));
  }
}

TEST(TooBig, WithoutATunnelItIsTheMtuItself) {
  for (const Forwarding forwarding : {Forwarding::kDirect, Forwarding::kNat}) {
    std::vector<TestService> services = Services(forwarding, kBackend4);
    for (TestService& service : services) service.vips.pop_back();
    services.push_back({.name = "web6",
                        .vips = {kVip6},
                        .backends = {{"b", kBackend6}},
                        .forwarding = forwarding});
    // One of nat has an address of its own.
    if (forwarding == Forwarding::kNat) services.erase(services.begin() + 1, services.begin() + 3);
    Path path(MakeSnapshot(services));
    EXPECT_EQ(path.Send(Framed(PacketOf4(1500))).text(), "forward");
    EXPECT_EQ(path.Send(Framed(PacketOf6(1500))).text(), "forward");
    EXPECT_EQ(Hex(path.Send(Framed(PacketOf4(1501))).frame()),
              Hex(FragmentationNeeded(PacketOf4(1501), 1500)));
    EXPECT_EQ(Hex(path.Send(Framed(PacketOf6(1501))).frame()),
              Hex(PacketTooBig(PacketOf6(1501), 1500)));
    if (forwarding == Forwarding::kDirect) continue;
    // A nat backend's answer: it is the backend that is told, by the one it was writing to.
    const Ipv4 answer4 = {.source = kBackend4, .destination = kClient4};
    const Bytes big4 = answer4.With(Tcp{.source_port = 80}, Counting(1461));
    EXPECT_EQ(Hex(path.Send(Framed(big4)).frame()),
              Hex(FragmentationNeeded(big4, 1500, kClient4, kBackend4)));
    const Ipv6 answer6 = {.source = kBackend6, .destination = kClient6};
    const Bytes big6 = answer6.With(Tcp{.source_port = 80}, Counting(1441));
    EXPECT_EQ(Hex(path.Send(Framed(big6)).frame()),
              Hex(PacketTooBig(big6, 1500, kClient6, kBackend6)));
  }
}

TEST(TooBig, NoMtuUnder1280IsToldToIpv6) {
  Path path(MakeSnapshot(Services(Forwarding::kIpip, kBackend6), {.mtu = 1300}));
  EXPECT_EQ(Hex(path.Send(Framed(PacketOf6(1281))).frame()),
            Hex(PacketTooBig(PacketOf6(1281), 1280)));
  EXPECT_EQ(Hex(path.Send(Framed(PacketOf4(1281))).frame()),
            Hex(FragmentationNeeded(PacketOf4(1281), 1260)));
  EXPECT_EQ(path.Send(Framed(PacketOf6(1280))).frames.size(), 2u) << "fragmented outside";
}

TEST(TooBig, NeverAboutAnIcmpError) {
  for (const Forwarding forwarding : {Forwarding::kIpip, Forwarding::kDirect}) {
    Path path(MakeSnapshot(Services(forwarding)));
    const Bytes quote4 =
        Ipv4{.source = kVip4, .destination = kClient4}.With(Tcp{.source_port = 80}, Counting(1500));
    const Bytes quote6 =
        Ipv6{.source = kVip6, .destination = kClient6}.With(Tcp{.source_port = 80}, Counting(1500));
    for (const uint8_t type : {3, 11, 12}) {
      EXPECT_EQ(path.Send(Framed(Ipv4{}.With(Icmp{.type = type, .rest = 0}, quote4))).text(),
                "drop too_big");
    }
    for (const uint8_t type : {1, 2, 3, 4}) {
      EXPECT_EQ(path.Send(Framed(Ipv6{}.With(Icmpv6{.type = type, .rest = 0}, quote6))).text(),
                "drop too_big");
    }
    EXPECT_GT(
        path.Send(Framed(Ipv4{.dont_fragment = false}.With(Icmp{.type = 3, .rest = 0}, quote4)))
            .frames.size(),
        1u)
        << "it may be fragmented, as any other";
  }
}

// RFC 1122, section 3.2.2, and RFC 4443, section 2.4: nor to a source that is no single host, and
// IPv4 about no fragment but the first.
TEST(TooBig, NorWhereTheStandardsForbidIt) {
  Path path(MakeSnapshot(Services(Forwarding::kIpip, kBackend4)));
  struct {
    const char* what;
    Bytes in;
    const char* outcome;
  } const rows[] = {
      {"from nowhere", PacketOf4(1490, {.source = "0.0.0.0"}), "drop too_big"},
      {"from a loopback address", PacketOf4(1490, {.source = "127.0.0.1"}), "drop too_big"},
      {"from class E", PacketOf4(1490, {.source = "240.0.0.1"}), "drop too_big"},
      {"from the last of class C", PacketOf4(1490, {.source = "223.255.255.1"}), "reply"},
      {"from nowhere, IPv6", PacketOf6(1490, {.source = "::"}), "drop too_big"},
      {"from the loopback address, IPv6", PacketOf6(1490, {.source = "::1"}), "drop too_big"},
      {"a first fragment with DF",
       Ipv4{.more_fragments = true}.Around(Tcp{}.Around(Counting(1460))), "reply"},
      {"a later one with DF", Ipv4{.fragment_offset = 185}.Around(Counting(1480)), "drop too_big"},
      {"a first fragment of IPv6",
       FragmentsOf(Ipv6{}, Tcp{}.Around(Counting(3000)), {1448, 2896})[0], "reply"},
      {"a later one of IPv6", FragmentsOf(Ipv6{}, Tcp{}.Around(Counting(3000)), {1448, 2896})[1],
       "reply"},
  };
  for (const auto& row : rows) EXPECT_EQ(path.Send(Framed(row.in)).text(), row.outcome) << row.what;
}

TEST(TooBig, AnswersAreLimitedAndNeedARoute) {
  Path path(MakeSnapshot(Services(), {.replies_per_second = 3}));
  const auto send = [&](int count) {
    std::string outcomes;
    for (int n = 0; n < count; ++n)
      absl::StrAppend(&outcomes, path.Send(Framed(PacketOf4(1490))).text(), ",");
    return outcomes;
  };
  EXPECT_EQ(send(5), "reply,reply,reply,drop too_big,drop too_big,");
  path.now += kTicksPerSecond;
  EXPECT_EQ(send(4), "reply,reply,reply,drop too_big,");
  EXPECT_EQ(path.Send(Framed(PacketOf4(1490, {.dont_fragment = false}))).text(), "forward")
      << "what may be fragmented needs no answer";

  Path lost(MakeSnapshot(Services(), {.has_routes = false}));
  EXPECT_EQ(lost.Send(Framed(PacketOf4(1490))).text(), "drop no_next_hop");
  EXPECT_EQ(lost.Send(Framed(PacketOf6(1490))).text(), "drop no_next_hop");
}

TEST(TooBig, AnswersCountForTheServiceAndItsConnection) {
  Path path(MakeSnapshot(Services()));
  const Outcome outcome = path.Send(Framed(PacketOf4(1490)));
  EXPECT_EQ(outcome.service, "web");
  EXPECT_EQ(outcome.flow(), "new") << "the packet has opened a connection";
  EXPECT_EQ(path.Send(Framed(PacketOf4(1490))).flow(), "hit");
}

// --- fragments outside

// Fits each fragment into its place, and takes the fragment headers away: the packet before it was
// cut. Complains of what is not as it should be.
Bytes Reassembled(const std::vector<Bytes>& frames, size_t mtu) {
  Bytes whole, first_header;
  for (size_t n = 0; n < frames.size(); ++n) {
    const Bytes packet = Unframed(frames[n]);
    EXPECT_LE(packet.size(), mtu);
    const bool last = n + 1 == frames.size();
    const bool v6 = packet[0] >> 4 == 6;
    const size_t headers = v6 ? 48 : 20;
    const uint16_t word = Get16(packet, v6 ? 42 : 6);
    const size_t offset = v6 ? word & 0xfff8 : (word & 0x1fff) * 8;
    const bool more = (word & (v6 ? 1 : 0x2000)) != 0;
    EXPECT_EQ(offset, whole.size()) << "in order, without gaps or overlaps";
    EXPECT_EQ(more, !last);
    if (!last) {
      EXPECT_EQ((packet.size() - headers) % 8, 0u);
      EXPECT_GT(packet.size() + 8, mtu) << "as large as fits";
    }
    if (v6) {
      EXPECT_EQ(Get16(packet, 4), packet.size() - 40);
      EXPECT_EQ(packet[6], 44) << "a fragment header";
      EXPECT_EQ(packet[41], 0) << "reserved";
      EXPECT_EQ(word & 6, 0) << "reserved";
    } else {
      EXPECT_EQ(Get16(packet, 2), packet.size());
      EXPECT_EQ(word & 0xc000, 0) << "no DF";
      EXPECT_EQ(Checksum(Slice(packet, 0, 20)), 0);
    }
    // All but length, flags, offset and checksum is the same in all.
    Bytes header = Slice(packet, 0, headers);
    for (const size_t at :
         v6 ? std::vector<size_t>{4, 5, 42, 43} : std::vector<size_t>{2, 3, 6, 7, 10, 11}) {
      header[at] = 0;
    }
    if (n == 0) first_header = header;
    EXPECT_EQ(Hex(header), Hex(first_header));
    const Bytes payload = Slice(packet, headers);
    whole.insert(whole.end(), payload.begin(), payload.end());
  }
  // The header of the whole, with the sizes of it.
  const size_t size = first_header[0] >> 4 == 6 ? whole.size() : whole.size() + 20;
  if (first_header[0] >> 4 == 6) {
    first_header[6] = first_header[40];
    first_header.resize(40);
    first_header[4] = static_cast<uint8_t>(size >> 8);
    first_header[5] = static_cast<uint8_t>(size);
  } else {
    first_header[2] = static_cast<uint8_t>(size >> 8);
    first_header[3] = static_cast<uint8_t>(size);
    const uint16_t sum = Checksum(first_header);
    first_header[10] = static_cast<uint8_t>(sum >> 8);
    first_header[11] = static_cast<uint8_t>(sum);
  }
  return Joined(first_header, whole);
}

TEST(FragmentedOutside, WhatHasNoDfAndWhatEveryNetworkMustCarry) {
  struct {
    const char* what;
    Bytes packet;
    uint16_t mtu;
    uint8_t tos = 0;
  } const rows[] = {
      {"IPv4 without DF, two", PacketOf4(1500, {.tos = 0xb9, .dont_fragment = false}), 1500, 0xb9},
      {"IPv4 without DF, many", PacketOf4(9000, {.dont_fragment = false}), 1500},
      {"IPv4 without DF, an odd MTU", PacketOf4(4001, {.dont_fragment = false}), 1397},
      {"IPv4 with options", PacketOf4(1500, {.dont_fragment = false, .options = Bytes(8, 1)}),
       1500},
      {"UDP without a checksum",
       Ipv4{.dont_fragment = false}.With(Udp{.checksum = 0}, Counting(1473)), 1500},
      {"a first fragment",
       Ipv4{.protocol = 17, .dont_fragment = false, .more_fragments = true}.Around(
           Udp{.length = uint16_t{3000}}.Around(Counting(1472))),
       1500},
      {"IPv6 of 1280 bytes", PacketOf6(1280), 1290},
      {"IPv6 of 1280 bytes where no fragment is as large", PacketOf6(1280, {.traffic_class = 3}),
       1280, 3},
  };
  for (const Place& place : Places()) {
    const bool v6 = place.backend == kBackend6;
    for (const auto& row : rows) {
      const std::string what = absl::StrCat(row.what, ", ", Name(place));
      Path path(MakeSnapshot(Services(place.forwarding, place.backend), {.mtu = row.mtu}));
      std::set<std::string> identifications;
      for (int turn = 0; turn < 3; ++turn) {
        const Outcome outcome = path.Send(Framed(row.packet));
        EXPECT_EQ(outcome.text(), "forward") << what;
        ASSERT_GT(outcome.frames.size(), 1u) << what;
        for (const Bytes& frame : outcome.frames) {
          EXPECT_EQ(Hex(Slice(frame, 0, 14)),
                    Hex(Slice(Sent(v6 ? PacketOf6(60) : PacketOf4(40)), 0, 14)));
        }
        const Bytes first = Unframed(outcome.frames[0]);
        identifications.insert(Hex(v6 ? Slice(first, 44, 4) : Slice(first, 4, 2)));
        const Bytes whole = Reassembled(outcome.frames, row.mtu);
        OuterLook look = {.tos = row.tos, .dont_fragment = false};
        if (!v6) look.identification = Get16(first, 4);
        EXPECT_EQ(Hex(whole),
                  Hex(Tunnelled(place.forwarding, place.backend, row.packet, whole, look)))
            << what;
      }
      EXPECT_EQ(identifications.size(), 3u) << "each has one of its own";
    }
  }
}

TEST(FragmentedOutside, EveryFrameHasItsTagsAndLength) {
  const std::vector<Vlan> tags = {{0x88a8, 5}, {0x8100, 7}};
  for (const char* backend : {kBackend4, kBackend6}) {
    Path path(MakeSnapshot(Services(Forwarding::kGue, backend)));
    const Bytes packet = PacketOf4(9000, {.dont_fragment = false});
    const Outcome outcome = path.Send(Framed(packet, tags));
    EXPECT_EQ(outcome.frames.size(), 7u);
    for (const Bytes& frame : outcome.frames) {
      EXPECT_EQ(Hex(Slice(frame, 0, 22)), Hex(Slice(Sent(Slice(frame, 22), tags), 0, 22)));
    }
  }
}

// Neighbours in a burst keep their own fragments.
TEST(FragmentedOutside, InABurst) {
  const Bytes big = Framed(PacketOf4(3000, {.dont_fragment = false})),
              small = Framed(PacketOf4(60));
  Path together(MakeSnapshot(Services())), single(MakeSnapshot(Services()));
  const std::vector<Bytes> frames = {small, big, small, big, big, small};
  const std::vector<Outcome> outcomes = together.Send(frames);
  for (size_t n = 0; n < frames.size(); ++n) {
    const Outcome alone = single.Send(frames[n]);
    ASSERT_EQ(outcomes[n].frames.size(), alone.frames.size());
    for (size_t i = 0; i < alone.frames.size(); ++i) {
      EXPECT_EQ(Hex(outcomes[n].frames[i]), Hex(alone.frames[i]));
    }
  }
}

// Packets larger than any interface's would make more fragments than one burst has room for: each
// is sent whole or not at all.
TEST(FragmentedOutside, MoreThanThereIsRoomFor) {
  Path path(MakeSnapshot(Services()));
  const Bytes huge = Framed(Ipv4{.dont_fragment = false}.With(Udp{}, Counting(60000)));
  int full = 0;
  for (const Outcome& outcome : path.Send(std::vector<Bytes>(Burst::kSize, huge))) {
    if (outcome.text() == "drop transmit_full") {
      ++full;
      EXPECT_TRUE(outcome.frames.empty());
      continue;
    }
    EXPECT_EQ(outcome.text(), "forward");
    EXPECT_EQ(Reassembled(outcome.frames, 1500).size(), 20u + 20u + 8u + 60000u);
  }
  EXPECT_GT(full, 0);
  EXPECT_LT(full, static_cast<int>(Burst::kSize));
  EXPECT_EQ(path.Send(huge).text(), "forward") << "the next burst has room again";
}

// --- fragments of the packet itself

TEST(FragmentedItself, DirectAndNat) {
  const Bytes copied = {0x94, 4, 0, 0}, not_copied = {7, 4, 4, 0}, filler = {1, 1, 1, 0};
  const Bytes both = Joined(copied, not_copied), both_turned = Joined(not_copied, copied);
  struct Row {
    const char* what;
    Ipv4 ip;
    size_t payload;
    uint16_t mtu;
    std::vector<size_t> cuts;
    Bytes later_options = {};
  };
  const std::vector<Row> rows = {
      {"two", Ipv4{}, 1481, 1500, {1480}},
      {"three", Ipv4{}, 3000, 1500, {1480, 2960}},
      {"an MTU that is no multiple of 8", Ipv4{}, 1500, 1006, {984}},
      {"options of the first alone", Ipv4{.options = not_copied}, 1500, 1500, {1472}},
      {"options of all", Ipv4{.options = copied}, 3000, 1500, {1472, 2944}, copied},
      {"both", Ipv4{.options = both}, 3000, 1500, {1472, 2944}, copied},
      {"both the other way round", Ipv4{.options = both_turned}, 1480, 1500, {1472}, copied},
      {"fillers stay behind", Ipv4{.options = filler}, 1500, 1500, {1472}},
  };
  for (const Forwarding forwarding : {Forwarding::kDirect, Forwarding::kNat}) {
    for (const auto& row : rows) {
      Path path(MakeSnapshot({{.forwarding = forwarding}}, {.mtu = row.mtu}));
      Ipv4 ip = row.ip;
      ip.dont_fragment = false;
      const Bytes data = Counting(row.payload - 20);
      const Bytes in = ip.With(Tcp{}, data);
      if (forwarding == Forwarding::kNat) ip.destination = "10.0.0.11";
      const Bytes whole = Slice(ip.With(Tcp{}, data), 20 + ip.options.size());
      std::vector<Bytes> expected = FragmentsOf(ip, whole, row.cuts);
      const Bytes first = expected[0];
      ip.options = row.later_options;
      expected = FragmentsOf(ip, whole, row.cuts);
      expected[0] = first;

      const Outcome outcome = path.Send(Framed(in));
      EXPECT_EQ(outcome.text(), "forward") << row.what;
      ASSERT_EQ(outcome.frames.size(), expected.size()) << row.what;
      for (size_t n = 0; n < expected.size(); ++n) {
        EXPECT_EQ(Hex(outcome.frames[n]), Hex(Sent(expected[n]))) << row.what << " " << n;
      }
    }
  }
}

// A packet that is a fragment has its place in the whole, and so have its parts.
TEST(FragmentedItself, AFragment) {
  Path path(MakeSnapshot({{.forwarding = Forwarding::kDirect}}));
  const Bytes whole = Tcp{}.Around(Counting(5980));
  const std::vector<Bytes> in = FragmentsOf(Ipv4{}, whole, {2000, 4000});
  const std::vector<std::vector<size_t>> cuts = {{1480, 2000}, {2000, 3480, 4000}, {4000, 5480}};
  const std::vector<Bytes> all = FragmentsOf(Ipv4{}, whole, {1480, 2000, 3480, 4000, 5480});
  size_t next = 0;
  for (const Bytes& fragment : in) {
    const Outcome outcome = path.Send(Framed(fragment));
    EXPECT_EQ(outcome.text(), "forward");
    ASSERT_EQ(outcome.frames.size(), 2u);
    for (const Bytes& frame : outcome.frames) EXPECT_EQ(Hex(frame), Hex(Sent(all.at(next++))));
  }
}

// --- what routers say of the way to a backend

Bytes FromRouter4(const Bytes& outer, uint32_t mtu, const char* to = "192.0.2.1",
                  std::optional<uint16_t> checksum = {}) {
  return Framed(Ipv4{.source = "192.0.2.200", .destination = to}.With(
      Icmp{.type = 3, .code = 4, .rest = mtu, .checksum = checksum}, Slice(outer, 0, 28)));
}
Bytes FromRouter6(const Bytes& outer, uint32_t mtu, const char* to = "2001:db8:1::1",
                  std::optional<uint16_t> checksum = {}) {
  return Framed(Ipv6{.source = "2001:db8:99::1", .destination = to}.With(
      Icmpv6{.type = 2, .rest = mtu, .checksum = checksum}, Slice(outer, 0, 1000)));
}

// The MTU that a client is told when it sends too much; 0: its packet went through.
uint32_t Told(Path& path, bool v6, size_t size = 1425) {
  const Outcome outcome = path.Send(Framed(v6 ? PacketOf6(size) : PacketOf4(size)));
  if (outcome.text() != "reply") return 0;
  return Get16(outcome.frame(), v6 ? 14 + 40 + 6 : 14 + 20 + 6);
}

TEST(PathMtu, LowersWhatGoesToThatBackendForTenMinutes) {
  for (const Place& place : Places()) {
    const bool v6 = place.backend == kBackend6;
    const auto outer = static_cast<uint32_t>(OuterSizeOf(place.forwarding, v6));
    Path path(MakeSnapshot(Services(place.forwarding, place.backend)));
    const Bytes sent = Unframed(path.Send(Framed(PacketOf4(1425))).frame());
    ASSERT_FALSE(sent.empty());
    const Outcome outcome = path.Send(v6 ? FromRouter6(sent, 1400) : FromRouter4(sent, 1400));
    EXPECT_EQ(outcome.text(), "punt") << "the kernel may want to know, too";
    EXPECT_EQ(Told(path, false), 1400 - outer) << Name(place);
    EXPECT_EQ(Told(path, true), 1400 - outer) << Name(place);
    EXPECT_EQ(Told(path, false, 1400 - outer), 0u) << "fits";
    path.now += 599 * kTicksPerSecond;
    EXPECT_EQ(Told(path, false), 1400 - outer) << Name(place);
    path.now += kTicksPerSecond;
    EXPECT_EQ(Told(path, false), 1400 - outer) << Name(place);
    path.now += 1;
    EXPECT_EQ(Told(path, false), 0u) << Name(place);
  }
}

TEST(PathMtu, FragmentsOutsideFitIt) {
  Path path(MakeSnapshot(Services()));
  const Bytes packet = PacketOf4(1400, {.dont_fragment = false});
  const Outcome whole = path.Send(Framed(packet));
  ASSERT_EQ(whole.frames.size(), 1u);
  path.Send(FromRouter4(Unframed(whole.frame()), 1300));
  const Outcome cut = path.Send(Framed(packet));
  ASSERT_EQ(cut.frames.size(), 2u);
  EXPECT_EQ(Hex(Reassembled(cut.frames, 1300)),
            Hex(Tunnelled(Forwarding::kIpip, kBackend4, packet, {},
                          {.dont_fragment = false, .identification = 1})));
}

TEST(PathMtu, HasItsBounds) {
  struct {
    const char* what;
    const char* backend;
    std::vector<uint32_t> said;
    uint32_t told;  // to an IPv4 client
  } const rows[] = {
      {"not under 576", kBackend4, {100}, 576 - 20},
      {"0: a router older than RFC 1191", kBackend4, {0}, 576 - 20},
      {"576", kBackend4, {576}, 576 - 20},
      {"not under 1280", kBackend6, {1000}, 1280 - 40},
      {"1280", kBackend6, {1280}, 1280 - 40},
      {"it goes down", kBackend4, {1400, 1300}, 1300 - 20},
      {"it never goes up", kBackend4, {1300, 1400}, 1300 - 20},
      {"not over the interface's", kBackend4, {9000}, 0},
      {"not over the interface's", kBackend6, {70000}, 0},
  };
  for (const auto& row : rows) {
    const bool v6 = row.backend == kBackend6;
    Path path(MakeSnapshot(Services(Forwarding::kIpip, row.backend)));
    const Bytes sent = Unframed(path.Send(Framed(PacketOf4(1425))).frame());
    for (const uint32_t mtu : row.said) {
      path.Send(v6 ? FromRouter6(sent, mtu) : FromRouter4(sent, mtu));
    }
    EXPECT_EQ(Told(path, false), row.told) << row.what;
    if (row.told == 0) {
      EXPECT_EQ(Told(path, false, 2000), v6 ? 1460u : 1480u) << row.what;
    }
  }
}

// A larger one that comes later does not make the smaller one last longer.
TEST(PathMtu, IsNotProlongedByALargerOne) {
  Path path(MakeSnapshot(Services()));
  const Bytes sent = Unframed(path.Send(Framed(PacketOf4(1425))).frame());
  path.Send(FromRouter4(sent, 1300));
  path.now += 500 * kTicksPerSecond;
  path.Send(FromRouter4(sent, 1400));
  path.now += 101 * kTicksPerSecond;
  EXPECT_NE(Told(path, false), 1280u) << "ten minutes are over";
}

TEST(PathMtu, BelievesOnlyWhatIsAboutOurs) {
  const Bytes outer4 = Tunnelled(Forwarding::kIpip, kBackend4, PacketOf4(1400), {});
  const Bytes outer6 =
      Ipv6{.source = "2001:db8:1::1", .destination = kBackend6, .next_header = 4}.Around(
          PacketOf4(1400));
  const auto quoting4 = [](const char* source, const char* destination) {
    return Ipv4{.source = source, .destination = destination, .protocol = 4}.Around(
        PacketOf4(1400));
  };
  struct {
    const char* what;
    Bytes in;
  } const rows[] = {
      {"wrong checksum", FromRouter4(outer4, 1400, "192.0.2.1", uint16_t{0x1234})},
      {"wrong ICMPv6 checksum", FromRouter6(outer6, 1400, "2001:db8:1::1", uint16_t{0x1234})},
      {"quoting another source", FromRouter4(quoting4("192.0.2.9", kBackend4), 1400)},
      {"quoting another destination", FromRouter4(quoting4("192.0.2.1", "10.0.0.99"), 1400)},
      {"to another than the source it quotes", FromRouter4(outer4, 1400, "192.0.2.9")},
      {"the same of IPv6", FromRouter6(outer6, 1400, "2001:db8:1::2")},
      {"quoting nothing", FromRouter4({}, 1400)},
      {"quoting half a header", FromRouter4(Slice(outer4, 0, 19), 1400)},
      {"host unreachable", Framed(Ipv4{.source = "192.0.2.200", .destination = "192.0.2.1"}.With(
                               Icmp{.type = 3, .code = 1, .rest = 1400}, Slice(outer4, 0, 28)))},
      {"time exceeded", Framed(Ipv4{.source = "192.0.2.200", .destination = "192.0.2.1"}.With(
                            Icmp{.type = 11, .code = 4, .rest = 1400}, Slice(outer4, 0, 28)))},
      {"ICMPv6 unreachable",
       Framed(Ipv6{.destination = "2001:db8:1::1"}.With(Icmpv6{.type = 1, .rest = 1400}, outer6))},
  };
  for (const auto& row : rows) {
    std::vector<TestService> services = Services();
    services[0].vips = {kVip4};
    services[1].vips = {kVip4};
    services.push_back({.name = "six", .vips = {kVip6}, .backends = {{"six", kBackend6}}});
    Path path(MakeSnapshot(services));
    EXPECT_EQ(path.Send(row.in).text(), "punt") << row.what;
    EXPECT_EQ(Told(path, false), 0u) << row.what;
    EXPECT_EQ(Told(path, true), 0u) << row.what;
    // Nor is it kept for a backend that comes with the next configuration.
    services[0].backends.push_back({"later", "10.0.0.99"});
    services[0].backends[0].state = BackendState::kDown;
    path.Use(MakeSnapshot(services, {.version = 2}));
    EXPECT_EQ(Told(path, false), 0u) << row.what;
  }
}

TEST(PathMtu, OfSpreadSources) {
  for (const bool v6 : {false, true}) {
    Path path(MakeSnapshot(
        Services(Forwarding::kIpip, v6 ? kBackend6 : kBackend4),
        {.tunnel_source_ipv4 = "10.99.0.0/16", .tunnel_source_ipv6 = "2001:db8:5::/64"}));
    const Bytes sent = Unframed(path.Send(Framed(PacketOf4(1425))).frame());
    const std::string to =
        (v6 ? IpAddress::V6(&sent.at(8)) : IpAddress::V4(&sent.at(12))).ToString();
    EXPECT_EQ(
        path.Send(v6 ? FromRouter6(sent, 1400, to.c_str()) : FromRouter4(sent, 1400, to.c_str()))
            .text(),
        "punt");
    EXPECT_EQ(Told(path, false), v6 ? 1360u : 1380u);
  }
}

// One backend's way says nothing of another's.
TEST(PathMtu, IsOfOneBackend) {
  Path path(MakeSnapshot(ServicesWithBackends(2)));
  std::map<std::string, uint16_t> ports;
  for (uint16_t port = 1; ports.size() < 2; ++port) {
    ports[path.Send(Framed(Ipv4{}.With(Tcp{.source_port = port}))).backend] = port;
  }
  const auto told = [&](const std::string& backend) {
    return path.Send(Framed(Ipv4{}.With(Tcp{.source_port = ports[backend]}, Counting(1400))))
        .text();
  };
  path.Send(
      FromRouter4(Ipv4{.source = "192.0.2.1", .destination = "10.0.0.100", .protocol = 4}.Around(
                      PacketOf4(1400)),
                  1400));
  EXPECT_EQ(told("b0"), "reply");
  EXPECT_EQ(told("b1"), "forward");
}

}  // namespace
}  // namespace guideway
