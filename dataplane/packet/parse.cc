#include "dataplane/packet/parse.h"

#include <algorithm>
#include <type_traits>

#include "dataplane/packet/stages.h"
#include "maglev/headers.h"

namespace guideway {
namespace {

constexpr int kMaxVlanTags = 2;
// Source and destination port, side by side in TCP and UDP headers and in the key.
constexpr size_t kPortsSize = 2 * sizeof(uint16_t);

bool IsVlanTag(uint16_t type) {
  return type == kEtherTypeVlan || type == kEtherTypeQinq || type == kEtherTypeOldQinq;
}

// An extension header, which says how long it is and what comes next (RFC 8200, section 4; RFC
// 7045). What is encrypted (ESP) and «no next header» end the chain.
bool IsExtensionHeader(uint8_t protocol) {
  switch (protocol) {
    case kProtocolHopByHop:
    case kProtocolRouting:
    case kProtocolFragment:
    case kProtocolAuthentication:
    case kProtocolDestinationOptions:
    case kProtocolMobility:
    case kProtocolHip:
    case kProtocolShim6: return true;
    default: return false;
  }
}

// `offset`: where the fragment's bytes belong in the whole. All but the last are a multiple of 8
// bytes, and the whole, with `headers` bytes in front that its length counts as well, is no longer
// than an IP packet can be.
template <bool quoted>
bool ReadFragment(size_t offset, size_t length, size_t headers, bool more, ParsedPacket& packet) {
  packet.is_later_fragment = offset != 0;
  packet.is_fragment = offset != 0 || more;
  return quoted || (headers + offset + length <= kMaxIpLength && !(more && length % 8 != 0));
}

template <bool quoted>
bool ReadIpv4(std::span<const uint8_t> bytes, bool checksum_good, ParsedPacket& packet,
              FlowKey& key) {
  if (bytes.size() < sizeof(Ipv4Header)) return false;
  const auto& ip = HeaderAt<Ipv4Header>(bytes.data());
  const size_t header_length = (ip.version_and_length & 0x0f) * 4u;
  size_t total_length = NetworkOrder(ip.total_length);
  if (quoted) total_length = std::min(total_length, bytes.size());
  if (ip.version_and_length >> 4 != 4 || header_length < sizeof(Ipv4Header) ||
      header_length > total_length || total_length > bytes.size()) {
    return false;
  }
  if (!quoted && !checksum_good && !IsSumOfGoodData(SumOf(bytes.data(), header_length))) {
    return false;
  }

  packet.ip_length = static_cast<uint32_t>(total_length);
  packet.transport_offset = static_cast<uint16_t>(header_length);
  packet.fragment_id = ip.identification;
  packet.dont_fragment = (ip.fragment & kDontFragment) != 0;
  key = {};
  std::memcpy(key.source, ip.source, sizeof(ip.source));
  std::memcpy(key.destination, ip.destination, sizeof(ip.destination));
  key.protocol = ip.protocol;
  key.version = 4;
  packet.is_fragment = packet.is_later_fragment = false;
  if ((ip.fragment & (kFragmentOffset | kMoreFragments)) == 0) return true;
  return ReadFragment<quoted>(NetworkOrder(ip.fragment & kFragmentOffset) * 8u,
                              total_length - header_length, header_length,
                              (ip.fragment & kMoreFragments) != 0, packet);
}

// Walks the extension headers of the packet that `bytes` are. False for a chain that overruns it or
// has too many links.
template <bool quoted>
bool WalkExtensionHeaders(std::span<const uint8_t> bytes, uint8_t next, ParsedPacket& packet,
                          FlowKey& key) {
  size_t offset = sizeof(Ipv6Header);
  for (int count = 0; IsExtensionHeader(next) && !packet.is_later_fragment; ++count) {
    if (count == kMaxExtensionHeaders || offset + 8 > bytes.size()) return false;
    const uint8_t* header = bytes.data() + offset;
    if (next == kProtocolFragment) {
      const auto& fragment = HeaderAt<Ipv6FragmentHeader>(header);
      const size_t headers = offset - sizeof(Ipv6Header);
      offset += sizeof(fragment);
      // Of several, the outermost is put together first.
      const bool was_fragment = packet.is_fragment;
      if (!was_fragment) packet.fragment_id = fragment.identification;
      if (!ReadFragment<quoted>(NetworkOrder(fragment.offset_and_more) & 0xfff8,
                                bytes.size() - offset, headers,
                                (fragment.offset_and_more & kMoreFragmentsIpv6) != 0, packet)) {
        return false;
      }
      packet.is_fragment |= was_fragment;
    } else {
      offset += next == kProtocolAuthentication ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
      if (offset > bytes.size()) return false;
    }
    next = header[0];
  }
  packet.transport_offset = static_cast<uint16_t>(offset);
  key.protocol = next;
  return true;
}

template <bool quoted>
bool ReadIpv6(std::span<const uint8_t> bytes, ParsedPacket& packet, FlowKey& key) {
  if (bytes.size() < sizeof(Ipv6Header)) return false;
  const auto& ip = HeaderAt<Ipv6Header>(bytes.data());
  size_t total_length = sizeof(ip) + NetworkOrder(ip.payload_length);
  if (quoted) total_length = std::min(total_length, bytes.size());
  if (bytes[0] >> 4 != 6 || total_length > bytes.size()) return false;

  packet.ip_length = static_cast<uint32_t>(total_length);
  packet.dont_fragment = true;  // by routers
  packet.is_fragment = packet.is_later_fragment = false;
  key = {};
  std::memcpy(key.source, ip.source, sizeof(ip.source));
  std::memcpy(key.destination, ip.destination, sizeof(ip.destination));
  packet.transport_offset = sizeof(Ipv6Header);
  key.protocol = ip.next_header;
  key.version = 6;
  if (!IsExtensionHeader(ip.next_header)) return true;
  return WalkExtensionHeaders<quoted>(bytes.first(total_length), ip.next_header, packet, key);
}

// Reads the ports and flags of the transport header `p`. False if it is malformed. A fragment's
// transport length is that of the whole packet, so only a packet that is not a fragment is held to
// it.
bool ReadTransport(std::span<const uint8_t> p, ParsedPacket& packet, FlowKey& key) {
  packet.tcp_flags = 0;
  packet.icmp_type = 0;
  packet.has_payload = false;
  if (packet.is_later_fragment) return true;
  if (key.protocol == kProtocolTcp) {
    if (p.size() < sizeof(TcpHeader)) return false;
    const auto& tcp = HeaderAt<TcpHeader>(p.data());
    const size_t header_length = (tcp.data_offset >> 4) * 4u;
    if (header_length < sizeof(TcpHeader) || header_length > p.size()) return false;
    std::memcpy(&key.source_port, &tcp, kPortsSize);
    packet.tcp_flags = tcp.flags;
    packet.has_payload = p.size() > header_length;
  } else if (key.protocol == kProtocolUdp) {
    if (p.size() < sizeof(UdpHeader)) return false;
    const auto& udp = HeaderAt<UdpHeader>(p.data());
    const size_t udp_length = NetworkOrder(udp.length);
    if (udp_length < sizeof(UdpHeader) || (!packet.is_fragment && udp_length > p.size()))
      return false;
    std::memcpy(&key.source_port, &udp, kPortsSize);
    packet.has_payload = udp_length > sizeof(UdpHeader);
  } else if (IsIcmp(key)) {
    if (p.size() < sizeof(IcmpHeader)) return false;
    packet.icmp_type = p[0];
  }
  return true;
}

// IPv4 addresses from here up are multicast, reserved or broadcast.
constexpr uint8_t kFirstUnusualIpv4 = 0xe0;

// Multicast or broadcast.
bool HasImpossibleSource(const uint8_t* ip, uint8_t version) {
  if (version == 6) return ip[offsetof(Ipv6Header, source)] == 0xff;
  const uint8_t* source = ip + offsetof(Ipv4Header, source);
  return (source[0] & 0xf0) == 0xe0 || Read<uint32_t>(source) == 0xffffffff;
}

bool ParseFrame(Frame& frame, uint16_t type, ParsedPacket& packet, FlowKey& key) {
  const std::span<const uint8_t> bytes(frame.data + packet.ip_offset,
                                       frame.length - packet.ip_offset);
  const bool is_read = type == kEtherTypeIpv4
                           ? ReadIpv4<false>(bytes, frame.ip_checksum_good, packet, key)
                           : ReadIpv6<false>(bytes, packet, key);
  if (!is_read) return false;
  if (HasImpossibleSource(bytes.data(), key.version)) return false;
  if (!ReadTransport(bytes.first(packet.ip_length).subspan(packet.transport_offset), packet, key)) {
    return false;
  }
  // Padding of a short frame does not travel.
  frame.length = packet.ip_offset + packet.ip_length;
  return true;
}

[[gnu::noinline]] bool ParseAny(Packet& p, bool& has_fragments) {
  Frame& frame = p.frame;
  ParsedPacket& packet = p.parsed;
  packet.is_fragment = false;  // read of malformed packets, too
  size_t offset = sizeof(EthernetHeader);
  for (int tags = 0;; ++tags, offset += kVlanTagSize) {
    if (frame.length < offset) return p.Drop(Reason::kMalformed);
    const uint16_t type = Read<uint16_t>(frame.data + offset - sizeof(type));
    if (type == kEtherTypeIpv4 || type == kEtherTypeIpv6) {
      packet.ip_offset = static_cast<uint16_t>(offset);
      if (!ParseFrame(frame, type, packet, p.key)) {
        packet.is_fragment = false;
        return p.Drop(Reason::kMalformed);
      }
      has_fragments |= packet.is_fragment;
      return true;
    }
    if (!IsVlanTag(type) || tags == kMaxVlanTags) return p.Finish(Verdict::kPunt);
  }
}

// What nearly all packets are, at one look: a good TCP or UDP packet without tags, options,
// extension headers or fragmentation. False for all others, malformed ones among them: those go the
// long way. For these both would find the same.
template <int version>
[[gnu::always_inline]] inline bool ParsePlainIp(Frame& frame, ParsedPacket& packet, FlowKey& key) {
  using IpHeader = std::conditional_t<version == 4, Ipv4Header, Ipv6Header>;
  constexpr uint32_t kIpOffset = sizeof(EthernetHeader);
  constexpr uint32_t kTransportOffset = sizeof(IpHeader);
  const uint8_t* ip_at = frame.data + kIpOffset;
  const auto& ip = HeaderAt<IpHeader>(ip_at);
  uint32_t ip_length;
  uint8_t protocol;
  bool dont_fragment = true;  // IPv6: by routers
  if constexpr (version == 4) {
    if (ip.version_and_length != 0x45 || (ip.fragment & ~kDontFragment) != 0) return false;
    if (ip.source[0] >= kFirstUnusualIpv4) return false;
    if (!frame.ip_checksum_good && !IsSumOfGoodData(WideSumOf(ip_at, sizeof(ip)))) return false;
    ip_length = NetworkOrder(ip.total_length);
    protocol = ip.protocol;
    dont_fragment = ip.fragment != 0;
    key.SetAddressesV4(ip.source, ip.destination);
  } else {
    if (ip_at[0] >> 4 != 6 || HasImpossibleSource(ip_at, version)) return false;
    ip_length = kTransportOffset + NetworkOrder(ip.payload_length);
    protocol = ip.next_header;
    std::memcpy(key.source, ip.source, sizeof(ip.source));
    std::memcpy(key.destination, ip.destination, sizeof(ip.destination));
  }
  if (ip_length > frame.length - kIpOffset || ip_length < kTransportOffset + sizeof(TcpHeader)) {
    return false;
  }
  const uint8_t* transport = ip_at + kTransportOffset;
  const uint32_t transport_length = ip_length - kTransportOffset;
  uint8_t tcp_flags = 0;
  uint32_t headers = sizeof(UdpHeader);
  if (protocol == kProtocolTcp) {
    const auto& tcp = HeaderAt<TcpHeader>(transport);
    headers = (tcp.data_offset >> 2) & 0x3c;
    if (headers < sizeof(tcp) || headers > transport_length) return false;
    tcp_flags = tcp.flags;
  } else if (protocol != kProtocolUdp ||
             NetworkOrder(HeaderAt<UdpHeader>(transport).length) != transport_length) {
    return false;
  }
  key.SetRest(Read<uint32_t>(transport), protocol, version);
  packet.ip_offset = kIpOffset;
  packet.transport_offset = kTransportOffset;
  packet.ip_length = ip_length;
  packet.tcp_flags = tcp_flags;
  packet.has_payload = headers != transport_length;
  packet.dont_fragment = dont_fragment;
  packet.icmp_type = 0;
  packet.is_fragment = packet.is_later_fragment = false;
  frame.length = kIpOffset + ip_length;
  return true;
}

[[gnu::always_inline]] inline bool ParsePlain(Frame& frame, ParsedPacket& packet, FlowKey& key) {
  constexpr uint32_t kLeast = sizeof(EthernetHeader) + sizeof(TcpHeader);
  if (frame.length < kLeast + sizeof(Ipv4Header)) return false;
  const uint16_t type = HeaderAt<EthernetHeader>(frame.data).type;
  if (type == kEtherTypeIpv4) return ParsePlainIp<4>(frame, packet, key);
  return type == kEtherTypeIpv6 && frame.length >= kLeast + sizeof(Ipv6Header) &&
         ParsePlainIp<6>(frame, packet, key);
}

constexpr uint32_t kCacheLine = 64;  // bytes

// The lines with the headers, and the one in front, where outer headers go.
void PrefetchFrame(const Frame& frame) {
  __builtin_prefetch(frame.data);
  __builtin_prefetch(frame.data - kCacheLine, 1);
  if (frame.length > kCacheLine) __builtin_prefetch(frame.data + kCacheLine);
}
// How many packets ahead: with two or three lines each, more than a core fetches at a time.
constexpr uint32_t kAhead = 24;

}  // namespace

bool ReadQuotedIp(std::span<const uint8_t> bytes, ParsedPacket& packet, FlowKey& key) {
  if (bytes.empty()) return false;
  return bytes[0] >> 4 == 4 ? ReadIpv4<true>(bytes, true, packet, key)
                            : ReadIpv6<true>(bytes, packet, key);
}

bool HasWrongIcmpChecksum(const uint8_t* ip, const ParsedPacket& packet, const FlowKey& key) {
  if (!IsIcmp(key) || packet.is_fragment) return false;
  uint32_t sum = 0;
  if (key.version == 6) {
    sum = PseudoHeaderSum(key.source, key.destination, sizeof(key.source), key.protocol,
                          packet.transport_length());
  }
  return FoldedSum(SumOf(ip + packet.transport_offset, packet.transport_length(), sum)) != 0xffff;
}

namespace {

// Whether the key names a connection. Of ICMP it depends on what is in it, and a later fragment has
// no ports.
bool NamesConnection(const Packet& p) { return !IsIcmp(p.key) && !p.parsed.is_later_fragment; }

// `hash`: by which of its two ways the FlowHasher is to hash.
template <auto hash>
[[gnu::always_inline]] inline void ParseBurst(const FlowHasher& hasher, FlowTable& flows,
                                              Burst& burst) {
  burst.has_fragments = false;
  burst.extras = {};
  const std::span<Packet> all = burst.all();
  const Packet* const end = all.data() + all.size();
  const Packet* ahead = all.data() + std::min<size_t>(all.size(), kAhead);
  for (const Packet* p = all.data(); p != ahead; ++p) PrefetchFrame(p->frame);
  for (Packet& p : all) {
    if (ahead < end) PrefetchFrame((ahead++)->frame);
    p.StartOver();
    if (!ParsePlain(p.frame, p.parsed, p.key)) {
      p.entry = FlowTable::Entry::None();
      p.undecided = ParseAny(p, burst.has_fragments);
      if (!p.undecided || !NamesConnection(p)) continue;
    }
    p.hash = (hasher.*hash)(p.key);
    p.entry = flows.ExpectFirst(p.hash);
  }
}
[[gnu::target("aes")]] void ParseByInstructions(const FlowHasher& hasher, FlowTable& flows,
                                                Burst& burst) {
  ParseBurst<&FlowHasher::HashByInstructions>(hasher, flows, burst);
}
void ParsePortably(const FlowHasher& hasher, FlowTable& flows, Burst& burst) {
  ParseBurst<&FlowHasher::HashPortably>(hasher, flows, burst);
}

}  // namespace

void Parse(const Snapshot& snapshot, FlowTable& flows, Burst& burst) {
  (HasAesInstructions() ? ParseByInstructions : ParsePortably)(snapshot.flow_hasher(), flows,
                                                               burst);
}

}  // namespace guideway
