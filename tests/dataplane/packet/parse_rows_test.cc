// What is a packet and what is malformed: by RFC 791, RFC 8200, RFC 9293, RFC 768, IEEE 802.1Q, and
// what the project decided where they leave room.
#include <gtest/gtest.h>

#include "tests/dataplane/packet/rows.h"

namespace guideway {
namespace {

using namespace testing;  // NOLINT: the builder's names read as the rows of a table

constexpr const char* kAll4 = "198.51.100.77";
constexpr const char* kAll6 = "2001:db8:10::77";
const Bytes kTcp4 = Ipv4{}.With(Tcp{}, {1, 2, 3});
const Bytes kTcp6 = Ipv6{}.With(Tcp{}, {1, 2, 3});

struct Row {
  const char* what;
  Bytes in;
  const char* outcome;
};

void Check(const std::vector<Row>& rows, Forwarding forwarding = Forwarding::kIpip) {
  const auto snapshot = MakeSnapshot(Services(forwarding));
  for (const Row& row : rows) {
    Path path(snapshot);
    EXPECT_EQ(path.Send(row.in).text(), row.outcome) << row.what;
  }
}

TEST(ParseRows, Ethernet) {
  const auto tagged = [](std::vector<Vlan> tags) { return Framed(kTcp4, tags); };
  Check({
      {"no tag", tagged({}), "forward"},
      {"802.1Q", tagged({{0x8100, 100}}), "forward"},
      {"priority tag: VLAN 0", tagged({{0x8100, 0xe000}}), "forward"},
      {"QinQ", tagged({{0x88a8, 5}, {0x8100, 7}}), "forward"},
      {"QinQ by two C-tags", tagged({{0x8100, 5}, {0x8100, 7}}), "forward"},
      {"an S-tag alone", tagged({{0x88a8, 5}}), "forward"},
      {"three tags", tagged({{0x88a8, 5}, {0x8100, 7}, {0x8100, 8}}), "punt"},
      {"IPv6 in QinQ", Framed(kTcp6, {{0x88a8, 5}, {0x8100, 7}}), "forward"},
      {"ARP", Ethernet{.type = 0x0806}.Around(Bytes(28, 1)), "punt"},
      {"ARP in a VLAN", Ethernet{.type = 0x0806, .tags = {{}}}.Around(Bytes(28, 1)), "punt"},
      {"LLDP", Ethernet{.type = 0x88cc}.Around(Bytes(46, 2)), "punt"},
      {"802.3 with a length", Ethernet{.type = 46}.Around(Bytes(46, 3)), "punt"},
      {"a tag and nothing behind it", Slice(tagged({{0x8100, 1}}), 0, 14), "drop malformed"},
      {"a tag cut short", Slice(tagged({{0x8100, 1}}), 0, 17), "drop malformed"},
      {"IPv4 in a frame for IPv6", Ethernet{.type = 0x86dd}.Around(kTcp4), "drop malformed"},
      {"IPv6 in a frame for IPv4", Ethernet{.type = 0x0800}.Around(kTcp6), "drop malformed"},
      {"version 7 in a frame for IPv6", Framed(Ipv6{.version = 7}.With(Tcp{})), "drop malformed"},
      {"version 5 in a frame for IPv4", Framed(Ipv4{.version = 5}.With(Tcp{})), "drop malformed"},
  });
}

// Each prefix of a good frame is malformed, but for padding that is missing: no byte behind the IP
// packet matters.
TEST(ParseRows, CutShortAtEveryLength) {
  const Bytes quote4 = Slice(Ipv4{.source = kVip4, .destination = kClient4}.With(
                                 Tcp{.source_port = 80, .destination_port = 40000}),
                             0, 28);
  const Bytes quote6 = Ipv6{.source = kVip6, .destination = kClient6}.With(
      Tcp{.source_port = 80, .destination_port = 40000});
  const std::vector<Bytes> packets = {
      kTcp4,
      kTcp6,
      Ipv4{.options = Bytes(40, 1)}.With(Tcp{}),
      Ipv4{}.With(Udp{}, {1, 2, 3}),
      Ipv6{}.With(Udp{}, {1, 2, 3}),
      Ipv4{}.With(Icmp{}, {1, 2, 3}),
      Ipv6{}.With(Icmpv6{}, {1, 2, 3}),
      Ipv4{}.With(Icmp{.type = 3, .code = 1, .rest = 0}, quote4),
      Ipv6{}.With(Icmpv6{.type = 1, .rest = 0}, quote6),
      Ipv4{.destination = kAll4, .protocol = 47}.Around(Gre{}.Around(kTcp4)),
      Ipv6{.extensions = {ExtensionHeader(0), ExtensionHeader(43, 2), AuthenticationHeader(),
                          FragmentHeader(0, false), ExtensionHeader(60, 1)}}
          .With(Tcp{}),
  };
  const auto snapshot = MakeSnapshot(Services());
  for (size_t n = 0; n < packets.size(); ++n) {
    for (const size_t tags : {0, 1, 2}) {
      const Bytes whole = Framed(packets[n], std::vector<Vlan>(tags));
      Path path(snapshot);
      for (size_t size = 0; size < whole.size(); ++size) {
        EXPECT_EQ(path.Send(Slice(whole, 0, size)).text(), "drop malformed")
            << "packet " << n << " with " << tags << " tags cut to " << size;
      }
      const Outcome all = path.Send(whole);
      EXPECT_TRUE(all.text() == "forward" || all.text() == "reply") << n << all.text();
    }
  }
}

TEST(ParseRows, Ipv4) {
  const auto tcp = [](const Ipv4& ip) { return Framed(ip.With(Tcp{}, {1, 2, 3, 4})); };
  Check({
      {"no options", tcp({}), "forward"},
      {"40 bytes of options", tcp({.options = Bytes(40, 1)}), "forward"},
      {"options that make no sense are not ours to judge", tcp({.options = {0x94, 0, 0, 0}}),
       "forward"},
      {"checksum over the options, too",
       tcp({.options = {1, 1, 1, 1}, .checksum = uint16_t{0x1234}}), "drop malformed"},
      {"header of 4 words", tcp({.header_words = uint8_t{4}}), "drop malformed"},
      {"header of 0 words", tcp({.header_words = uint8_t{0}}), "drop malformed"},
      {"header longer than the packet", tcp({.header_words = uint8_t{15}}), "drop malformed"},
      {"total length under the header", tcp({.total_length = uint16_t{19}}), "drop malformed"},
      {"total length beyond the frame", tcp({.total_length = uint16_t{45}}), "drop malformed"},
      {"multicast source", tcp({.source = "239.1.2.3"}), "drop malformed"},
      {"broadcast source", tcp({.source = "255.255.255.255"}), "drop malformed"},
      {"the VIP itself as source", tcp({.source = kVip4}), "drop malformed"},
      {"multicast source, not to a VIP", tcp({.source = "224.0.0.1", .destination = "10.1.1.1"}),
       "drop malformed"},
      {"wrong checksum, not to a VIP", tcp({.destination = "10.1.1.1", .checksum = uint16_t{1}}),
       "drop malformed"},
      {"cut short, not to a VIP", Slice(tcp({.destination = "10.1.1.1"}), 0, 57), "drop malformed"},
      {"good, not to a VIP", tcp({.destination = "10.1.1.1"}), "punt"},
      {"total length up to the header alone, of no protocol that has one",
       Framed(Ipv4{.destination = kAll4, .protocol = 253}.Around({})), "forward"},
  });
}

TEST(ParseRows, Ipv4Fragments) {
  const auto fragment = [](uint16_t offset, bool more, size_t size) {
    return Framed(
        Ipv4{.dont_fragment = false, .more_fragments = more, .fragment_offset = offset}.Around(
            Slice(Tcp{}.Around(Bytes(2000, 0)), 0, size)));
  };
  Check({
      {"a first one of 24 bytes", fragment(0, true, 24), "forward"},
      {"a first one whose length is not a multiple of 8", fragment(0, true, 25), "drop malformed"},
      {"a middle one whose length is not a multiple of 8", fragment(9, true, 25), "drop malformed"},
      {"a last one may have any length", fragment(9, false, 25), "held"},
      {"a first one without all of the TCP header", fragment(0, true, 16), "drop malformed"},
      {"it ends with the last byte that an IP packet can have", fragment(8188, false, 11), "held"},
      {"it ends behind it", fragment(8188, false, 12), "drop malformed"},
      {"it ends far behind it", fragment(8191, false, 1400), "drop malformed"},
      {"one without bytes at the very end", fragment(8189, false, 3), "held"},
  });
}

TEST(ParseRows, Ipv6) {
  const auto tcp = [](const Ipv6& ip) { return Framed(ip.With(Tcp{}, {1, 2, 3})); };
  Check({
      {"no extension header", tcp({}), "forward"},
      {"multicast source", tcp({.source = "ff02::1"}), "drop malformed"},
      {"the VIP itself as source", tcp({.source = kVip6}), "drop malformed"},
      {"payload length beyond the frame", tcp({.payload_length = uint16_t{24}}), "drop malformed"},
      {"payload length that leaves 19 bytes of TCP", tcp({.payload_length = uint16_t{19}}),
       "drop malformed"},
      {"payload length 0: a jumbogram, or nothing", tcp({.payload_length = uint16_t{0}}),
       "drop malformed"},
      {"payload length 0 with hop-by-hop options",
       tcp({.extensions = {ExtensionHeader(0)}, .payload_length = uint16_t{0}}), "drop malformed"},
      {"malformed is judged before the VIP",
       tcp({.destination = "2001:db8:10::99", .payload_length = uint16_t{24}}), "drop malformed"},
      {"good, not to a VIP", tcp({.destination = "2001:db8:10::99"}), "punt"},
      {"no next header ends the chain",
       Framed(Ipv6{.destination = kAll6, .next_header = 59}.Around({1, 2})), "forward"},
      {"no next header, no service", Framed(Ipv6{.next_header = 59}.Around({})),
       "drop port_not_served"},
      {"ESP ends the chain: what follows is encrypted",
       Framed(Ipv6{.destination = kAll6, .next_header = 50}.Around(Bytes(3, 0xff))), "forward"},
      {"ESP behind an extension header",
       Framed(Ipv6{.destination = kAll6, .next_header = 50, .extensions = {ExtensionHeader(60)}}
                  .Around(Bytes(3, 0xff))),
       "forward"},
  });
}

// Up to eight of every kind, in whatever order.
TEST(ParseRows, Ipv6ExtensionHeaders) {
  const std::vector<Extension> kinds = {
      ExtensionHeader(0),     ExtensionHeader(0, 3),    ExtensionHeader(43),
      ExtensionHeader(43, 2), ExtensionHeader(60),      ExtensionHeader(60, 9),
      ExtensionHeader(135),   ExtensionHeader(139),     ExtensionHeader(140),
      AuthenticationHeader(), AuthenticationHeader(20), FragmentHeader(0, false)};
  const auto snapshot = MakeSnapshot(Services(Forwarding::kIpip));
  Path path(snapshot);
  for (size_t count = 0; count <= 10; ++count) {
    for (size_t first = 0; first < kinds.size(); ++first) {
      for (const size_t step : {0, 1, 5, 7}) {
        Ipv6 ip;
        for (size_t n = 0; n < count; ++n) {
          ip.extensions.push_back(kinds[(first + n * step) % kinds.size()]);
        }
        EXPECT_EQ(path.Send(Framed(ip.With(Tcp{}, {7}))).text(),
                  count <= 8 ? "forward" : "drop malformed")
            << count << " from " << first << " by " << step;
        EXPECT_EQ(path.Send(Framed(ip.With(Udp{}, {7}))).text(),
                  count <= 8 ? "forward" : "drop malformed");
        EXPECT_EQ(path.Send(Framed(ip.With(Icmpv6{}))).text(),
                  count <= 8 ? "reply" : "drop malformed");
      }
    }
  }
}

TEST(ParseRows, Ipv6ChainsThatOverrun) {
  const auto with = [](std::vector<Extension> extensions, size_t units_said, const Bytes& rest) {
    extensions.back().rest[0] = static_cast<uint8_t>(units_said);
    return Framed(Ipv6{.extensions = std::move(extensions)}.Around(rest));
  };
  const Bytes tcp = Tcp{}.Around({});
  Check({
      {"a header that says to be as long as the rest", with({ExtensionHeader(60)}, 3, tcp),
       "drop malformed"},
      {"longer than the packet", with({ExtensionHeader(60)}, 200, tcp), "drop malformed"},
      {"in the second of two", with({ExtensionHeader(0), ExtensionHeader(43)}, 4, tcp),
       "drop malformed"},
      {"AH counts 4 bytes: 24 of them, then TCP", with({AuthenticationHeader()}, 4, tcp),
       "forward"},
      {"AH that says to be longer than the packet", with({AuthenticationHeader()}, 10, tcp),
       "drop malformed"},
      {"the packet ends in the middle of a header",
       Framed(Ipv6{.next_header = 60}.Around({6, 0, 1, 4, 0, 0, 0})), "drop malformed"},
      {"in the middle of a fragment header", Framed(Ipv6{.next_header = 44}.Around({6, 0, 0, 0})),
       "drop malformed"},
      {"it ends with one, and TCP should follow",
       Framed(Ipv6{.extensions = {ExtensionHeader(60)}}.Around({})), "drop malformed"},
  });
}

TEST(ParseRows, Ipv6Fragments) {
  const auto fragment = [](uint16_t offset, bool more, size_t size,
                           std::vector<Extension> before = {}) {
    before.push_back(FragmentHeader(offset, more));
    return Framed(Ipv6{.extensions = before}.Around(Slice(Tcp{}.Around(Bytes(2000, 0)), 0, size)));
  };
  Check({
      {"offset 0 and no more: a whole packet (RFC 6946)", fragment(0, false, 21), "forward"},
      {"a first one", fragment(0, true, 24), "forward"},
      {"a first one behind other headers", fragment(0, true, 24, {ExtensionHeader(0)}), "forward"},
      {"a first one whose length is not a multiple of 8", fragment(0, true, 25), "drop malformed"},
      {"a middle one whose length is not a multiple of 8", fragment(9, true, 25), "drop malformed"},
      {"a last one may have any length", fragment(9, false, 25), "held"},
      {"a first one without all of the TCP header", fragment(0, true, 16), "drop malformed"},
      {"the payload of the whole is as long as can be", fragment(8188, false, 31), "held"},
      {"it is longer", fragment(8188, false, 32), "drop malformed"},
      {"headers before the fragment header count", fragment(8188, false, 24, {ExtensionHeader(0)}),
       "drop malformed"},
      {"what a later fragment begins with is no header",
       Framed(Ipv6{.next_header = 60, .extensions = {FragmentHeader(5, false)}}.Around(
           Bytes(5, 0xff))),
       "held"},
  });
}

TEST(ParseRows, Transport) {
  const auto udp = [](std::optional<uint16_t> length, bool v6) {
    const Udp udp = {.length = length};
    return Framed(v6 ? Ipv6{}.With(udp, {1, 2, 3, 4}) : Ipv4{}.With(udp, {1, 2, 3, 4}));
  };
  const auto tcp = [](uint8_t words, size_t payload, bool v6) {
    const Tcp tcp = {.header_words = words};
    return Framed(v6 ? Ipv6{}.With(tcp, Bytes(payload, 0)) : Ipv4{}.With(tcp, Bytes(payload, 0)));
  };
  for (const bool v6 : {false, true}) {
    SCOPED_TRACE(v6 ? "IPv6" : "IPv4");
    Check({
        {"UDP, its length right", udp(12, v6), "forward"},
        {"UDP length 0", udp(0, v6), "drop malformed"},
        {"UDP length 7", udp(7, v6), "drop malformed"},
        {"UDP length 8", udp(8, v6), "forward"},
        {"UDP length beyond the packet", udp(13, v6), "drop malformed"},
        {"TCP offset 4", tcp(4, 0, v6), "drop malformed"},
        {"TCP offset 0", tcp(0, 40, v6), "drop malformed"},
        {"TCP offset 15 with all options there", tcp(15, 40, v6), "forward"},
        {"TCP offset 15 with a byte missing", tcp(15, 39, v6), "drop malformed"},
        {"TCP header cut",
         Framed(v6 ? Ipv6{}.Around(Bytes(19, 0x50)) : Ipv4{}.Around(Bytes(19, 0x50))),
         "drop malformed"},
        {"UDP header cut",
         Framed(v6 ? Ipv6{.next_header = 17}.Around(Bytes(7, 0))
                   : Ipv4{.protocol = 17}.Around(Bytes(7, 0))),
         "drop malformed"},
        {"ICMP of 7 bytes",
         Framed(v6 ? Ipv6{.next_header = 58}.Around(Bytes(7, 0))
                   : Ipv4{.protocol = 1}.Around(Bytes(7, 0))),
         "drop malformed"},
        {"ICMP of 7 bytes, not to a VIP",
         Framed(v6 ? Ipv6{.destination = "2001:db8::", .next_header = 58}.Around(Bytes(7, 0))
                   : Ipv4{.destination = "10.1.1.1", .protocol = 1}.Around(Bytes(7, 0))),
         "drop malformed"},
    });
  }
}

// Whatever is behind the IP packet: short frames are filled up to 60 bytes.
TEST(ParseRows, PaddingDoesNotTravel) {
  Path path(MakeSnapshot(Services(Forwarding::kDirect)));
  const auto padded = [](Bytes frame) { return Joined(frame, Bytes(11, 0x55)); };
  for (const Bytes& packet :
       {Ipv4{}.With(Tcp{}), Ipv6{}.With(Tcp{}), Ipv4{}.With(Udp{}), Ipv6{}.With(Udp{}, {1}),
        Ipv6{.extensions = {ExtensionHeader(60)}}.With(Udp{}, {1, 2, 3})}) {
    EXPECT_EQ(Hex(path.Send(padded(Framed(packet))).frame()), Hex(Sent(packet)));
    EXPECT_EQ(Hex(path.Send(padded(Framed(packet, {{}}))).frame()), Hex(Sent(packet, {{}})));
  }
}

}  // namespace
}  // namespace guideway
