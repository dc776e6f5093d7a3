#include "tests/support/plain_path.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "maglev/choice.h"
#include "maglev/quic_lb.h"
#include "tests/support/plain_bytes.h"

namespace guideway::testing {
namespace {

constexpr uint8_t kTcp = 6, kUdp = 17, kIcmp = 1, kIcmpv6 = 58, kFragment = 44;
constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;
constexpr uint64_t kSecondNs = 1000000000;
// Left to us: ages are counted in quarters of a second.
constexpr uint64_t kTickNs = kSecondNs / 4;
constexpr uint64_t kTicksASecond = 4;
// Left to us: how long a fragment waits, how long the fate of a first one counts (from its coming),
// and how large a frame is kept.
constexpr uint64_t kHoldNs = kSecondNs / 2;
constexpr uint64_t kFateNs = 5 * kSecondNs;
constexpr size_t kLargestHeld = 9622;
constexpr uint64_t kPathMtuTicks = 600 * kTicksASecond;

// --- checksums ---

// The checksum of what has changed: as right, or as wrong, as it was before.
uint16_t Corrected(uint32_t checksum, uint64_t sum_before, uint64_t sum_after) {
  return static_cast<uint16_t>((checksum + sum_before % 65535 + 65535 - sum_after % 65535) % 65535);
}

// --- making packets ---

Bytes MakeIpv4(const Bytes& source, const Bytes& destination, uint8_t protocol, uint8_t tos,
               uint32_t identification, bool dont_fragment, const Bytes& payload) {
  Bytes b = {0x45, tos};
  Add16(b, 20 + static_cast<uint32_t>(payload.size()));
  Add16(b, identification);
  Add16(b, dont_fragment ? 0x4000 : 0);
  Add8(b, 64);
  Add8(b, protocol);
  Add16(b, 0);
  Add(b, source);
  Add(b, destination);
  Put16(b, 10, ChecksumOfSum(Sum(b)));
  Add(b, payload);
  return b;
}

Bytes MakeIpv6(const Bytes& source, const Bytes& destination, uint8_t next, uint8_t traffic_class,
               uint32_t label, const Bytes& payload) {
  Bytes b;
  Add32(b, 6u << 28 | static_cast<uint32_t>(traffic_class) << 20 | label);
  Add16(b, static_cast<uint32_t>(payload.size()));
  Add8(b, next);
  Add8(b, 64);
  Add(b, source);
  Add(b, destination);
  Add(b, payload);
  return b;
}

// --- reading packets ---

struct Ip {
  Bytes bytes;  // of the IP packet, no more than it says, and of a quoted one no more than there is
  int version = 4;
  size_t transport = 0;  // where the transport header is
  IpAddress source, destination;
  uint8_t protocol = 0;
  bool is_fragment = false, is_later = false, dont_fragment = false;
  uint32_t identification = 0;
  // Of what is no later fragment.
  uint16_t source_port = 0, destination_port = 0;
  uint8_t tcp_flags = 0;
  bool has_data = false;  // behind the TCP header
  int icmp_type = -1;     // not ICMP, or not to be seen

  uint8_t icmp() const { return version == 4 ? kIcmp : kIcmpv6; }
  bool has_ports() const { return protocol == kTcp || protocol == kUdp; }
  size_t transport_length() const { return bytes.size() - transport; }
  uint8_t traffic_class() const {
    return version == 4 ? bytes[1] : static_cast<uint8_t>(bytes[0] << 4 | bytes[1] >> 4);
  }
  // Left to us: ICMPv6 type 0, which is reserved, is none, nor is a redirect.
  bool is_icmp_error() const {
    if (version == 6) return icmp_type > 0 && icmp_type < 128;
    return icmp_type == 3 || icmp_type == 4 || icmp_type == 11 || icmp_type == 12;
  }
  bool is_echo_request() const { return !is_fragment && icmp_type == (version == 4 ? 8 : 128); }
  // Over the transport part and, where there is one, its pseudo header.
  uint64_t transport_sum() const {
    uint64_t sum = Sum(From(bytes, transport));
    if (protocol != kIcmp) sum += PseudoHeader(source, destination, protocol, transport_length());
    return sum;
  }
  // What makes the fragments of one packet belong together (RFC 791; RFC 8200, section 4.5).
  std::string whole() const {
    return absl::StrCat(source.ToString(), " ", destination.ToString(), " ", identification, " ",
                        version == 4 ? protocol : 0);
  }
  FlowKey key() const {
    FlowKey key = {};
    std::copy_n(source.bytes(), source.bits() / 8, key.source);
    std::copy_n(destination.bytes(), destination.bits() / 8, key.destination);
    // As they lie in the packet.
    Bytes ports;
    Add16(ports, source_port);
    Add16(ports, destination_port);
    std::copy_n(ports.data(), 2, reinterpret_cast<uint8_t*>(&key.source_port));
    std::copy_n(ports.data() + 2, 2, reinterpret_cast<uint8_t*>(&key.destination_port));
    key.protocol = protocol;
    key.version = static_cast<uint8_t>(version);
    return key;
  }
};

// A part of a packet of 65535 bytes at most, as its length field counts, with what is before the
// parts; all parts but the last in units of eight bytes.
bool IsPossibleFragment(uint32_t offset, bool more, size_t length, size_t before) {
  return before + offset + length <= 65535 && !(more && length % 8 != 0);
}

std::optional<Ip> ReadIpv4(const Bytes& b, bool quoted, bool checksum_good) {
  if (b.size() < 20 || b[0] >> 4 != 4) return std::nullopt;
  const size_t header = (b[0] & 15) * 4u;
  size_t length = Get16(b, 2);
  if (quoted) length = std::min(length, b.size());
  if (header < 20 || length < header || length > b.size()) return std::nullopt;
  if (!quoted && !checksum_good && !IsRight(Sum(Part(b, 0, header)))) return std::nullopt;
  Ip ip;
  ip.bytes = Part(b, 0, length);
  ip.version = 4;
  ip.transport = header;
  ip.source = IpAddress::V4(&b[12]);
  ip.destination = IpAddress::V4(&b[16]);
  ip.protocol = b[9];
  ip.identification = Get16(b, 4);
  ip.dont_fragment = (b[6] & 0x40) != 0;
  const uint32_t offset = (Get16(b, 6) & 0x1fff) * 8;
  const bool more = (b[6] & 0x20) != 0;
  ip.is_fragment = offset != 0 || more;
  ip.is_later = offset != 0;
  if (!quoted && !IsPossibleFragment(offset, more, length - header, header)) return std::nullopt;
  return ip;
}

std::optional<Ip> ReadIpv6(const Bytes& b, bool quoted) {
  if (b.size() < 40 || b[0] >> 4 != 6) return std::nullopt;
  size_t length = 40 + Get16(b, 4);
  if (quoted) length = std::min(length, b.size());
  if (length > b.size()) return std::nullopt;
  Ip ip;
  ip.bytes = Part(b, 0, length);
  ip.version = 6;
  ip.dont_fragment = true;
  ip.source = IpAddress::V6(&b[8]);
  ip.destination = IpAddress::V6(&b[24]);
  uint8_t next = b[6];
  size_t at = 40;
  const Bytes extensions = {0, 43, kFragment, 51, 60, 135, 139, 140};
  for (int n = 1; std::count(extensions.begin(), extensions.end(), next) != 0; ++n) {
    if (ip.is_later) break;  // what follows is not at its beginning
    if (n > 8 || at + 8 > length) return std::nullopt;
    const uint8_t after = b[at];
    if (next == kFragment) {
      const uint32_t offset = Get16(b, at + 2) & 0xfff8;
      const bool more = (b[at + 3] & 1) != 0;
      // The outermost is put together first.
      if (!ip.is_fragment) ip.identification = Get32(b, at + 4);
      ip.is_fragment = ip.is_fragment || offset != 0 || more;
      ip.is_later = offset != 0;
      const size_t before = at - 40;
      at += 8;
      if (!quoted && !IsPossibleFragment(offset, more, length - at, before)) return std::nullopt;
    } else {
      at += next == 51 ? (b[at + 1] + 2) * 4 : (b[at + 1] + 1) * 8;
      if (at > length) return std::nullopt;
    }
    next = after;
  }
  ip.protocol = next;
  ip.transport = at;
  return ip;
}

std::optional<Ip> ReadIp(const Bytes& b, bool quoted, bool checksum_good) {
  if (b.empty()) return std::nullopt;
  return b[0] >> 4 == 4 ? ReadIpv4(b, quoted, checksum_good) : ReadIpv6(b, quoted);
}

// Of a packet that was received. False if it is malformed.
bool ReadTransport(Ip& ip) {
  if (ip.is_later) return true;
  const Bytes t = From(ip.bytes, ip.transport);
  if (ip.protocol == kTcp) {
    if (t.size() < 20) return false;
    const size_t header = (t[12] >> 4) * 4u;
    if (header < 20 || header > t.size()) return false;
    ip.tcp_flags = t[13];
    ip.has_data = t.size() > header;
  } else if (ip.protocol == kUdp) {
    if (t.size() < 8 || Get16(t, 4) < 8) return false;
    if (!ip.is_fragment && Get16(t, 4) > t.size()) return false;
  } else if (ip.protocol == ip.icmp()) {
    if (t.size() < 8) return false;
    ip.icmp_type = t[0];
  }
  if (ip.has_ports()) {
    ip.source_port = static_cast<uint16_t>(Get16(t, 0));
    ip.destination_port = static_cast<uint16_t>(Get16(t, 2));
  }
  return true;
}

// The packet that an ICMP error quotes; none if it is mutilated.
std::optional<Ip> ReadQuote(const Ip& error) {
  std::optional<Ip> quote = ReadIp(From(error.bytes, error.transport + 8), true, true);
  if (!quote.has_value() || quote->version != error.version) return std::nullopt;
  if (!quote->has_ports() || quote->is_later) return quote;
  if (quote->transport_length() < 8) return std::nullopt;
  quote->source_port = static_cast<uint16_t>(Get16(quote->bytes, quote->transport));
  quote->destination_port = static_cast<uint16_t>(Get16(quote->bytes, quote->transport + 2));
  return quote;
}

// --- nat ---

// A packet of which one end is another's. Port 0: stays.
Bytes WithEnd(const Ip& ip, bool is_source, const IpAddress& address, uint16_t port) {
  Ip changed = ip;
  const size_t at = ip.version == 4 ? (is_source ? 12 : 16) : (is_source ? 8 : 24);
  std::copy_n(address.bytes(), address.bits() / 8, &changed.bytes[at]);
  (is_source ? changed.source : changed.destination) = address;
  if (ip.version == 4) {
    Put16(changed.bytes, 10,
          Corrected(Get16(ip.bytes, 10), Sum(Part(ip.bytes, 0, ip.transport)),
                    Sum(Part(changed.bytes, 0, ip.transport))));
  }
  if (ip.is_later) return changed.bytes;
  if (ip.has_ports() && port != 0) Put16(changed.bytes, ip.transport + (is_source ? 0 : 2), port);
  size_t checksum = ip.transport;
  if (ip.protocol == kTcp) {
    checksum += 16;
  } else if (ip.protocol == kUdp) {
    checksum += 6;
  } else if (ip.protocol == kIcmpv6) {
    checksum += 2;
  } else {
    return changed.bytes;
  }
  if (checksum + 2 > ip.bytes.size()) return changed.bytes;  // it is cut off
  const uint32_t was = Get16(ip.bytes, checksum);
  if (ip.protocol == kUdp && was == 0) return changed.bytes;  // there is none
  uint16_t is = Corrected(was, ip.transport_sum(), changed.transport_sum());
  if (ip.protocol == kUdp && is == 0) is = 0xffff;
  Put16(changed.bytes, checksum, is);
  return changed.bytes;
}

// The same for an ICMP error, and the other end of what it quotes.
Bytes WithEndAndQuote(const Ip& ip, const Ip& quote, bool is_source, const IpAddress& address,
                      uint16_t port) {
  Ip changed = ip;
  const Bytes quoted = WithEnd(quote, !is_source, address, port);
  std::copy(quoted.begin(), quoted.end(),
            changed.bytes.begin() + static_cast<ptrdiff_t>(ip.transport + 8));
  Put16(changed.bytes, ip.transport + 2,
        Corrected(Get16(ip.bytes, ip.transport + 2), Sum(From(ip.bytes, ip.transport)),
                  Sum(From(changed.bytes, ip.transport))));
  return WithEnd(changed, is_source, address, port);
}

// --- fragments ---

// Of IPv4 options, those for every fragment (RFC 791, section 3.1).
Bytes CopiedOptions(const Bytes& options) {
  Bytes copied;
  for (size_t at = 0; at < options.size() && options[at] != 0;) {
    if (options[at] == 1) {
      ++at;
      continue;
    }
    if (at + 1 == options.size() || options[at + 1] < 2 || at + options[at + 1] > options.size()) {
      break;
    }
    const size_t end = at + options[at + 1];
    if (options[at] >= 128) Add(copied, Part(options, at, end));
    at = end;
  }
  while (copied.size() % 4 != 0) copied.push_back(0);
  return copied;
}

// RFC 791, section 3.2: what still does not fit gives off as many units of eight bytes as fit.
std::vector<Bytes> SplitIpv4(const Bytes& packet, uint32_t mtu) {
  Bytes header = Part(packet, 0, (packet[0] & 15) * 4u);
  Bytes rest = From(packet, header.size());
  uint32_t offset = Get16(packet, 6) & 0x1fff;
  const bool more = (packet[6] & 0x20) != 0;
  std::vector<Bytes> fragments;
  while (!rest.empty()) {
    const bool is_last = header.size() + rest.size() <= mtu;
    const size_t share = is_last ? rest.size() : (mtu - header.size()) / 8 * 8;
    Put16(header, 2, static_cast<uint32_t>(header.size() + share));
    Put16(header, 6, offset | (!is_last || more ? 0x2000u : 0u));
    Put16(header, 10, 0);
    Put16(header, 10, ChecksumOfSum(Sum(header)));
    fragments.push_back(header);
    Add(fragments.back(), Part(rest, 0, share));
    rest = From(rest, share);
    offset += static_cast<uint32_t>(share / 8);
    if (fragments.size() == 1) {
      const Bytes options = CopiedOptions(From(header, 20));
      header.resize(20);
      Add(header, options);
      header[0] = static_cast<uint8_t>(0x40 | header.size() / 4);
    }
  }
  return fragments;
}

// RFC 8200, section 4.5, of a packet without extension headers.
std::vector<Bytes> SplitIpv6(const Bytes& packet, uint32_t mtu, uint32_t identification) {
  std::vector<Bytes> fragments;
  const Bytes payload = From(packet, 40);
  for (size_t at = 0; at < payload.size();) {
    const bool is_last = 48 + payload.size() - at <= mtu;
    const size_t share = is_last ? payload.size() - at : (mtu - 48) / 8 * 8;
    Bytes b = Part(packet, 0, 40);
    Put16(b, 4, static_cast<uint32_t>(8 + share));
    b[6] = kFragment;
    Add8(b, packet[6]);
    Add8(b, 0);
    Add16(b, static_cast<uint32_t>(at) | (is_last ? 0 : 1));
    Add32(b, identification);
    Add(b, Part(payload, at, at + share));
    fragments.push_back(b);
    at += share;
  }
  return fragments;
}

// --- tunnels ---

bool IsTunnel(const Service& service) {
  return service.forwarding != Forwarding::kDirect && service.forwarding != Forwarding::kNat;
}

// What is between the outer IP header and the packet inside.
uint32_t ShimSize(Forwarding forwarding) {
  switch (forwarding) {
    case Forwarding::kIpip: return 0;
    case Forwarding::kGre: return 4;
    case Forwarding::kGue: return 8 + 4;
    case Forwarding::kVxlan: return 8 + 8 + 14;
    case Forwarding::kDirect:
    case Forwarding::kNat: break;
  }
  return 0;
}

uint32_t OuterSize(const Service& service, const Backend& backend) {
  if (!IsTunnel(service)) return 0;
  return (backend.address.is_v4() ? 20 : 40) + ShimSize(service.forwarding);
}

// Left to us: bit n of the address's host part is bit n of the hash, as it lies in memory.
Bytes SpreadSource(const Prefix& prefix, const FlowHash& hash) {
  Bytes address = BytesOf(prefix.address);
  for (size_t bit = static_cast<size_t>(prefix.length); bit < address.size() * 8; ++bit) {
    const uint64_t word = bit < 64 ? hash.flow : hash.slot;
    const uint64_t byte = word >> (bit % 64 / 8 * 8) & 0xff;
    const uint8_t mask = static_cast<uint8_t>(0x80 >> bit % 8);
    if ((byte & mask) != 0) address[bit / 8] |= mask;
  }
  return address;
}

// How much the checksum inside is off. Over IPv6 the outer one is made without reading the payload,
// by trusting the one inside, so it is off by the same. Left to us: only the checksum of a whole
// packet without extension headers is trusted.
uint64_t InnerError(const Ip& ip) {
  if (ip.is_fragment || ip.transport != (ip.version == 4 ? (ip.bytes[0] & 15) * 4u : 40)) return 0;
  if (ip.protocol == kUdp && (Get16(ip.bytes, ip.transport + 6) == 0 ||
                              Get16(ip.bytes, ip.transport + 4) != ip.transport_length())) {
    return 0;
  }
  return ip.has_ports() ? ip.transport_sum() % 65535 : 0;
}

Bytes Encapsulate(const Service& service, const Backend& backend, const FlowHash& hash,
                  bool dont_fragment, uint32_t identification, const Ip& inner) {
  const bool is_v4 = inner.version == 4;
  const uint32_t ether_type = is_v4 ? 0x0800 : 0x86dd;
  uint8_t protocol = is_v4 ? 4 : 41;
  const bool is_udp =
      service.forwarding == Forwarding::kGue || service.forwarding == Forwarding::kVxlan;
  Bytes payload;
  if (service.forwarding == Forwarding::kGre) {  // RFC 2784, section 2.1
    Add16(payload, 0);
    Add16(payload, ether_type);
    protocol = 47;
  }
  if (is_udp) {
    Add16(payload, 49152 + (hash.flow & 0x3fff));  // left to us: these bits
    Add16(payload, service.tunnel.port);
    Add16(payload, static_cast<uint32_t>(inner.bytes.size()) + ShimSize(service.forwarding));
    Add16(payload, 0);
  }
  if (service.forwarding == Forwarding::kGue) {
    Add8(payload, 0);
    Add8(payload, protocol);
    Add16(payload, 0);
  }
  if (service.forwarding == Forwarding::kVxlan) {  // RFC 7348, section 5
    Add32(payload, 0x08000000);
    Add32(payload, service.tunnel.vni << 8);
    Add(payload, BytesOf(service.tunnel.inner_mac));
    Add(payload, BytesOf(backend.next_hop.source));  // left to us
    Add16(payload, ether_type);
  }
  Add(payload, inner.bytes);
  if (is_udp) protocol = kUdp;
  const Bytes source = SpreadSource(backend.tunnel_source, hash);
  const Bytes destination = BytesOf(backend.address);
  if (backend.address.is_v4()) {
    return MakeIpv4(source, destination, protocol, inner.traffic_class(), identification,
                    dont_fragment, payload);
  }
  if (is_udp) {
    const uint64_t sum = Sum(source) + Sum(destination) + kUdp + payload.size() + Sum(payload);
    const uint16_t checksum = ChecksumOfSum(sum + 65535 - InnerError(inner));
    Put16(payload, 6, checksum == 0 ? 0xffff : checksum);
  }
  // Left to us: these bits, as they lie in memory.
  const uint32_t label = __builtin_bswap32(static_cast<uint32_t>(hash.flow >> 16)) & 0xfffff;
  return MakeIpv6(source, destination, protocol, inner.traffic_class(), label, payload);
}

std::string BytesOfKey(const FlowKey& key) {
  return std::string(reinterpret_cast<const char*>(&key), sizeof(key));
}

}  // namespace

std::string PlainOutcome::ToString() const {
  if (held) return "held";
  std::string text(kVerdictInfo[static_cast<size_t>(verdict)].name);
  if (verdict == Verdict::kDrop) {
    absl::StrAppend(&text, " ", kReasonInfo[static_cast<size_t>(reason)].name);
  }
  absl::StrAppend(&text, " ", service, "/", backend,
                  flow == FlowLookup::kNew   ? " new"
                  : flow == FlowLookup::kHit ? " hit"
                                             : " none");
  if (!frames.empty()) absl::StrAppend(&text, ", ", frames.size(), " frames by ", interface);
  return text;
}

bool PlainPath::Limit::Take(uint64_t per_second, uint64_t now) {
  if (per_second == 0) return false;
  const uint64_t passed = now - since;
  backlog_ns = backlog_ns > passed ? backlog_ns - passed : 0;
  since = now;
  const uint64_t interval = std::max<uint64_t>(1, kSecondNs / per_second);
  if (backlog_ns > interval * (per_second - 1)) return false;
  backlog_ns += interval;
  return true;
}

void PlainPath::Limit::Charge(uint64_t per_second, uint64_t now) {
  const uint64_t passed = now - since;
  backlog_ns = backlog_ns > passed ? backlog_ns - passed : 0;
  since = now;
  backlog_ns += std::max<uint64_t>(1, kSecondNs / per_second);
}

// One packet, from the frame to what is sent.
class PlainStep {
 public:
  PlainStep(PlainPath& path, const Bytes& frame, bool ip_checksum_good, uint64_t number,
            bool was_held, const Snapshot& snapshot, uint64_t now)
      : path_(path),
        snapshot_(snapshot),
        now_(now),
        ticks_(now / kTickNs),
        frame_(frame),
        ip_checksum_good_(ip_checksum_good),
        number_(number),
        was_held_(was_held) {}

  PlainOutcome Run() {
    size_t at = 12;
    for (int tags = 0;; ++tags, at += 4) {
      if (frame_.size() < at + 2) return Drop(Reason::kMalformed);
      const uint32_t type = Get16(frame_, at);
      if (type == 0x0800 || type == 0x86dd) {
        tags_ = Part(frame_, 12, at);
        const Bytes packet = From(frame_, at + 2);
        if (packet.empty() || packet[0] >> 4 != (type == 0x0800 ? 4 : 6)) {
          return Drop(Reason::kMalformed);
        }
        return OfIp(packet);
      }
      const bool is_tag = type == 0x8100 || type == 0x88a8 || type == 0x9100;
      if (!is_tag || tags == 2) return Punt();
    }
  }

 private:
  using State = PlainPath::State;

  PlainOutcome Drop(Reason reason) const {
    PlainOutcome outcome = so_far_;
    outcome.verdict = Verdict::kDrop;
    outcome.reason = reason;
    return outcome;
  }
  PlainOutcome Punt() const {
    PlainOutcome outcome = so_far_;
    outcome.verdict = Verdict::kPunt;
    return outcome;
  }

  PlainOutcome OfIp(const Bytes& packet) {
    std::optional<Ip> ip = ReadIp(packet, false, ip_checksum_good_);
    if (!ip.has_value() || ip->source.is_multicast() ||
        ip->source.ToString() == "255.255.255.255" || !ReadTransport(*ip)) {
      return Drop(Reason::kMalformed);
    }
    ip_ = *ip;
    int longest = -1;
    for (const auto& service : snapshot_.services()) {
      for (const Prefix& vip : service->vips) {
        if (!vip.Contains(ip_.destination) || vip.length < longest) continue;
        if (vip.length > longest) at_vip_.clear();
        longest = vip.length;
        at_vip_.push_back(service.get());
      }
    }
    return longest >= 0 ? ToVip() : NotToVip();
  }

  const Service* Served(uint8_t protocol, uint16_t port) const {
    for (const Service* service : at_vip_) {
      if (service->protocol == Protocol::kAny) return service;
      if (static_cast<uint8_t>(service->protocol) != protocol) continue;
      for (const PortRange& ports : service->ports) {
        if (ports.first <= port && port <= ports.last) return service;
      }
    }
    return nullptr;
  }

  bool HasWrongIcmpChecksum() const {
    return ip_.icmp_type >= 0 && !ip_.is_fragment && !IsRight(ip_.transport_sum());
  }

  PlainOutcome ToVip() {
    if (ip_.is_icmp_error()) quote_ = ReadQuote(ip_);
    if (ip_.source == ip_.destination || HasWrongIcmpChecksum() ||
        (ip_.is_icmp_error() && !quote_.has_value())) {
      return Decided(Drop(Reason::kMalformed));
    }
    if (snapshot_.IsDenied(ip_.source)) return Decided(Drop(Reason::kAccessDenied));
    if (ip_.is_later) return Follow(true);
    if (ip_.is_echo_request()) return EchoReply();
    Ip connection = ip_;
    if (ip_.is_icmp_error()) {
      if (quote_->source != ip_.destination || (quote_->has_ports() && quote_->is_later)) {
        return Decided(Drop(Reason::kPortNotServed));
      }
      // An answer of the connection is quoted.
      connection = *quote_;
      std::swap(connection.source, connection.destination);
      std::swap(connection.source_port, connection.destination_port);
    }
    const Service* service = Served(connection.protocol, connection.destination_port);
    if (service == nullptr) return Decided(Drop(Reason::kPortNotServed));
    so_far_.service = service->name;
    const FlowHash hash = snapshot_.flow_hasher().Hash(connection.key());
    Reason reason = Reason::kNoBackend;
    const Backend* backend =
        Choose(*service, connection.source, BytesOfKey(connection.key()), hash, reason);
    if (backend == nullptr) return Decided(Drop(reason));
    so_far_.backend = backend->name;
    RememberSent(*backend, hash);
    return ToBackend(*service, *backend, hash);
  }

  // Not to a VIP: what a nat backend answers, what routers say about packets of ours, or not ours.
  PlainOutcome NotToVip() {
    // To all on the link, or to a neighbour.
    const Bytes to = BytesOf(ip_.destination);
    const bool on_link =
        ip_.version == 4
            ? (to[0] & 0xf0) == 224 || (to[0] == 169 && to[1] == 254) || to == Bytes(4, 255)
            : to[0] == 0xff || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80);
    if (on_link) return Decided(Punt());
    if (ip_.is_icmp_error()) {
      quote_ = ReadQuote(ip_);
      if (!quote_.has_value() || quote_->source != ip_.destination) return Decided(Punt());
      LearnPathMtu();
      if (snapshot_.IsOwn(ip_.destination)) return Decided(Punt());
      if (quote_->has_ports() && quote_->is_later) return Decided(Punt());
      return FromNat(quote_->destination, quote_->protocol, quote_->destination_port);
    }
    if (!IsNatBackend(ip_.source) || snapshot_.IsOwn(ip_.destination)) return Decided(Punt());
    if (ip_.is_later) return Follow(false);
    return FromNat(ip_.source, ip_.protocol, ip_.source_port);
  }

  bool IsNatBackend(const IpAddress& address) const {
    for (const auto& service : snapshot_.services()) {
      if (service->forwarding != Forwarding::kNat) continue;
      for (const Backend& backend : service->backends) {
        if (backend.address == address) return true;
      }
    }
    return false;
  }

  PlainOutcome FromNat(const IpAddress& address, uint8_t protocol, uint16_t port) {
    for (const auto& service : snapshot_.services()) {
      if (service->forwarding != Forwarding::kNat) continue;
      for (const Backend& backend : service->backends) {
        if (backend.address != address) continue;
        bool is_it = service->protocol == Protocol::kAny;
        if (static_cast<uint8_t>(service->protocol) == protocol) {
          for (const PortRange& ports : service->ports) {
            is_it |= backend.port == 0 ? ports.Contains(port) : port == backend.port;
          }
        }
        if (!is_it) continue;
        so_far_.service = service->name;
        so_far_.backend = backend.name;
        so_far_.flow = FlowLookup::kHit;
        RememberSent(backend, {});
        return FromBackend(*service, backend);
      }
    }
    return Decided(Punt());
  }

  // ICMP errors about outer packets: they come to where those came from, and quote one.
  void LearnPathMtu() {
    bool is_source = false, is_end = false;
    for (const auto& service : snapshot_.services()) {
      if (!IsTunnel(*service)) continue;
      for (const Backend& backend : service->backends) {
        is_source |= backend.tunnel_source.Contains(ip_.destination);
        is_end |= backend.address == quote_->destination;
      }
    }
    // The checksum of a fragment cannot be checked, so it is not believed.
    const Bytes tunnels = {4, 41, 47, 17};
    if (std::count(tunnels.begin(), tunnels.end(), quote_->protocol) == 0) return;
    if (quote_->protocol == kUdp && quote_->source_port < 49152) return;
    if (!is_source || !is_end || ip_.is_fragment || HasWrongIcmpChecksum()) return;
    const uint8_t code = ip_.bytes[ip_.transport + 1];
    uint32_t mtu = 0;
    if (ip_.version == 4) {
      if (ip_.icmp_type != 3 || code != 4) return;
      mtu = std::max<uint32_t>(576, Get16(ip_.bytes, ip_.transport + 6));
    } else {
      if (ip_.icmp_type != 2) return;
      mtu = std::max<uint32_t>(1280, Get32(ip_.bytes, ip_.transport + 4));
    }
    auto& known = path_.path_mtus_[quote_->destination];
    // A wider path is no news.
    if (known.mtu != 0 && known.mtu < mtu && ticks_ - known.learned <= kPathMtuTicks) return;
    known = {mtu, ticks_};
  }

  uint32_t Mtu(const Service& service, const Backend& backend) const {
    const auto known = path_.path_mtus_.find(backend.address);
    if (!IsTunnel(service) || known == path_.path_mtus_.end()) return backend.next_hop.mtu;
    if (ticks_ - known->second.learned > kPathMtuTicks) return backend.next_hop.mtu;
    return std::min<uint32_t>(backend.next_hop.mtu, known->second.mtu);
  }

  // --- connections ---

  bool Opens() const { return (ip_.tcp_flags & (kSyn | kAck)) == kSyn; }

  // The backend of a connection, if the packet may go there.
  const Backend* Usable(BackendId id, const Service& service) const {
    for (const Backend& backend : service.backends) {
      if (backend.id != id || backend.state == BackendState::kDown) continue;
      if (backend.state == BackendState::kDrain && !quote_.has_value() && Opens()) continue;
      return &backend;
    }
    return nullptr;
  }

  bool IsTimedOut(const PlainPath::Connection& c) const {
    return PlainStep::IsTimedOut(c, snapshot_, ticks_);
  }

 public:
  static bool IsTimedOut(const PlainPath::Connection& c, const Snapshot& snapshot, uint64_t ticks) {
    const FlowTimeouts& t = snapshot.timeouts();
    uint64_t seconds = t.udp_s;
    if (c.state == State::kHandshake) seconds = t.tcp_handshake_s;
    if (c.state == State::kEstablished) seconds = t.tcp_established_s;
    if (c.state == State::kClosing) seconds = t.tcp_closing_s;
    return ticks - c.touched > seconds * kTicksASecond;
  }

 private:
  const Backend* ByQuicId(const Service& service) const {
    if (service.quic == nullptr || quote_.has_value()) return nullptr;
    const size_t end =
        std::min(ip_.bytes.size(), ip_.transport + Get16(ip_.bytes, ip_.transport + 4));
    const uint32_t index = service.quic->FindInPacket(Part(ip_.bytes, ip_.transport + 8, end));
    if (index == QuicLb::kNone) return nullptr;
    const Backend& backend = service.backends[index];
    return backend.state == BackendState::kDown ? nullptr : &backend;
  }

  const Backend* Choose(const Service& service, const IpAddress& client, const std::string& name,
                        const FlowHash& hash, Reason& reason) {
    if (const Backend* backend = ByQuicId(service)) return backend;
    const Backend* by_hash = ChooseByHash(service, client, hash, snapshot_.hash_seed());
    const auto known = path_.connections_.find(name);
    const bool is_known = known != path_.connections_.end();
    if (quote_.has_value()) {  // follows its connection, and changes nothing about it
      if (!is_known || IsTimedOut(known->second)) return by_hash;
      const Backend* backend = Usable(known->second.backend, service);
      if (backend == nullptr) return by_hash;
      so_far_.flow = FlowLookup::kHit;
      return backend;
    }

    const bool is_tcp = ip_.protocol == kTcp;
    const bool ends = (ip_.tcp_flags & (kFin | kRst)) != 0;
    State first = State::kUdp;
    if (is_tcp) {
      first = Opens() ? State::kHandshake : ends ? State::kClosing : State::kEstablished;
    }
    // A SYN on a connection that was closing is another connection.
    const bool goes_on = is_known && !IsTimedOut(known->second) &&
                         !(known->second.state == State::kClosing && Opens());
    if (!goes_on) {
      if (by_hash == nullptr) return nullptr;
      // Left to us: what is in the middle of a connection does not count as a new one.
      const bool counts = !is_tcp || Opens();
      if (counts && service.new_flows_per_second != 0 &&
          !path_.new_flows_[service.id].Take(service.new_flows_per_second, now_)) {
        reason = Reason::kRateLimited;
        return nullptr;
      }
      path_.connections_[name] = {by_hash->id, first, true, ticks_};
      so_far_.flow = FlowLookup::kNew;
      return by_hash;
    }

    PlainPath::Connection& connection = known->second;
    const Backend* backend = Usable(connection.backend, service);
    so_far_.flow = FlowLookup::kHit;
    if (backend == nullptr) {
      so_far_.flow = FlowLookup::kNone;
      if (by_hash == nullptr) return nullptr;
      so_far_.flow = FlowLookup::kNew;
      backend = by_hash;
      connection.backend = backend->id;
    }
    // FIN and RST shorten an entry's time, later data restores it; a bare ACK does not.
    if (connection.state != State::kUdp) {
      const bool stays_closing = connection.state == State::kClosing && !ip_.has_data;
      if (Opens()) {
        connection.state = State::kHandshake;
      } else if (ends) {
        connection.state = State::kClosing;
      } else if (!stays_closing) {
        connection.state = State::kEstablished;
      }
    }
    // Left to us: until it is seen a second or more after its first packet, its time runs from
    // that.
    if (ticks_ - connection.touched >= kTicksASecond) connection.unconfirmed = false;
    if (!connection.unconfirmed) connection.touched = ticks_;
    return backend;
  }

  // --- fragments ---

  void Remember(PlainPath::Fate fate) {
    if (!ip_.is_fragment || ip_.is_later) return;
    fate.since = now_;
    path_.fates_[ip_.whole()] = fate;
    for (PlainPath::Held& held : path_.held_) held.is_ready |= held.of == ip_.whole();
  }
  void RememberSent(const Backend& backend, const FlowHash& hash) {
    Remember({.backend = backend.id, .hash = hash});
  }
  PlainOutcome Decided(const PlainOutcome& outcome) {
    // What is punted is punted whole; only where nat backends are might it be something else.
    // Who is denied is denied for itself.
    const bool denied =
        outcome.verdict == Verdict::kDrop && outcome.reason == Reason::kAccessDenied;
    if (!denied && (outcome.verdict != Verdict::kPunt || IsNatBackend(ip_.source))) {
      Remember({.outcome = outcome});
    }
    return outcome;
  }

  PlainOutcome Follow(bool to_vip) {
    const auto found = path_.fates_.find(ip_.whole());
    if (found == path_.fates_.end() || now_ - found->second.since > kFateNs ||
        !IsThere(found->second.backend)) {
      const size_t size = 12 + tags_.size() + 2 + ip_.bytes.size();
      if (was_held_ || size > kLargestHeld) {
        return to_vip ? Drop(Reason::kFragmentUnknown) : Punt();
      }
      path_.held_.push_back({ip_.whole(), now_, number_, frame_, ip_checksum_good_, false});
      return PlainOutcome{.held = true};
    }
    const PlainPath::Fate& fate = found->second;
    if (fate.backend == kNoBackend) {
      return fate.outcome.verdict == Verdict::kPunt ? Punt() : Drop(fate.outcome.reason);
    }
    for (const auto& service : snapshot_.services()) {
      for (const Backend& backend : service->backends) {
        if (backend.id != fate.backend) continue;
        if (!to_vip && service->forwarding != Forwarding::kNat) return Punt();
        so_far_.service = service->name;
        so_far_.backend = backend.name;
        if (to_vip) return ToBackend(*service, backend, fate.hash);
        so_far_.flow = FlowLookup::kHit;  // an answer like any other
        return FromBackend(*service, backend);
      }
    }
    return Punt();  // not reached: it is there
  }

  // Of a backend that has left the configuration nothing is known. kNoBackend: none is needed.
  bool IsThere(BackendId id) const {
    if (id == kNoBackend) return true;
    for (const auto& service : snapshot_.services()) {
      for (const Backend& backend : service->backends) {
        if (backend.id == id) return true;
      }
    }
    return false;
  }

  // --- what leaves ---

  bool MayBeFragmented(uint32_t outer_size) const {
    if (ip_.bytes.size() + outer_size > 65535) return false;
    if (ip_.version == 4) return !ip_.dont_fragment;
    return outer_size != 0 && ip_.bytes.size() <= 1280;  // RFC 2473, section 7.1
  }

  PlainOutcome ToBackend(const Service& service, const Backend& backend, const FlowHash& hash) {
    const NextHop& hop = backend.next_hop;
    if (!hop.is_known()) return Drop(Reason::kNoNextHop);
    const uint32_t mtu = Mtu(service, backend);
    const uint32_t outer_size = OuterSize(service, backend);
    const bool fits = ip_.bytes.size() + outer_size <= mtu;
    if (!fits && !MayBeFragmented(outer_size)) return TooBig(mtu - outer_size);
    Bytes packet = ip_.bytes;
    if (service.forwarding == Forwarding::kNat) {
      packet = quote_.has_value()
                   ? WithEndAndQuote(ip_, *quote_, false, backend.address, backend.port)
                   : WithEnd(ip_, false, backend.address, backend.port);
    } else if (IsTunnel(service)) {
      const bool dont_fragment = ip_.dont_fragment && fits;
      uint32_t identification = 0;
      if (backend.address.is_v4() && !dont_fragment) {
        identification = path_.identification_++ & 0xffff;
      }
      packet = Encapsulate(service, backend, hash, dont_fragment, identification, ip_);
    }
    return Send(Verdict::kForward, hop, mtu, packet);
  }

  PlainOutcome FromBackend(const Service& service, const Backend& backend) {
    const NextHop& hop = snapshot_.routes().Find(ip_.destination);
    if (!hop.is_known()) return Drop(Reason::kNoNextHop);
    if (ip_.bytes.size() > hop.mtu && !MayBeFragmented(0)) return TooBig(hop.mtu);
    const IpAddress& vip = service.vips.front().address;
    const uint16_t port = backend.port == 0 ? 0 : service.ports.front().first;
    return Send(Verdict::kForward, hop, hop.mtu,
                quote_.has_value() ? WithEndAndQuote(ip_, *quote_, true, vip, port)
                                   : WithEnd(ip_, true, vip, port));
  }

  // From the address that the packet was sent to.
  Bytes Back(uint8_t traffic_class, const Bytes& icmp) const {
    const Bytes source = BytesOf(ip_.destination), destination = BytesOf(ip_.source);
    return ip_.version == 4 ? MakeIpv4(source, destination, kIcmp, traffic_class, 0, true, icmp)
                            : MakeIpv6(source, destination, kIcmpv6, traffic_class, 0, icmp);
  }

  void FillIcmpChecksum(Bytes& icmp) const {
    Put16(icmp, 2, 0);
    uint64_t sum = Sum(icmp);
    if (ip_.version == 6) sum += PseudoHeader(ip_.destination, ip_.source, kIcmpv6, icmp.size());
    Put16(icmp, 2, ChecksumOfSum(sum));
  }

  PlainOutcome EchoReply() {
    const NextHop& hop = snapshot_.routes().Find(ip_.source);
    if (!hop.is_known()) return Drop(Reason::kNoNextHop);
    Bytes icmp = From(ip_.bytes, ip_.transport);
    if (icmp.size() + (ip_.version == 4 ? 20 : 40) > hop.mtu) return Drop(Reason::kTooBig);
    if (!path_.replies_.Take(snapshot_.replies_per_second(), now_)) {
      return Drop(Reason::kRateLimited);
    }
    icmp[0] = ip_.version == 4 ? 0 : 129;
    FillIcmpChecksum(icmp);
    // Left to us: in the request's class of service, without its ECN.
    return Send(Verdict::kReply, hop, hop.mtu, Back(ip_.traffic_class() & 0xfc, icmp));
  }

  PlainOutcome TooBig(uint32_t mtu) {
    if (ip_.version == 6) mtu = std::max(mtu, 1280u);
    const bool not_to_be_told = ip_.version == 4 && (ip_.is_later || !ip_.dont_fragment);
    // RFC 1122, section 3.2.2; RFC 4443, section 2.4: the sender is to be one host.
    const std::string source = ip_.source.ToString();
    const int first = ip_.source.bytes()[0];
    const bool nobody = ip_.version == 4 ? first == 0 || first == 127 || first >= 240
                                         : source == "::" || source == "::1";
    if (ip_.is_icmp_error() || nobody || not_to_be_told || ip_.bytes.size() <= mtu) {
      return Drop(Reason::kTooBig);
    }
    const NextHop& hop = snapshot_.routes().Find(ip_.source);
    if (!hop.is_known()) return Drop(Reason::kNoNextHop);
    // Errors have their own measure, and echo replies what they leave.
    if (!path_.errors_.Take(snapshot_.replies_per_second(), now_)) return Drop(Reason::kTooBig);
    path_.replies_.Charge(snapshot_.replies_per_second(), now_);
    Bytes icmp;
    Add16(icmp, ip_.version == 4 ? 3 << 8 | 4 : 2 << 8);
    Add16(icmp, 0);
    Add32(icmp, mtu);
    const size_t most = ip_.version == 4 ? 576 - 28 : 1280 - 48;
    Add(icmp, Part(ip_.bytes, 0, std::min(most, ip_.bytes.size())));
    FillIcmpChecksum(icmp);
    return Send(Verdict::kReply, hop, hop.mtu, Back(0, icmp));
  }

  PlainOutcome Send(Verdict verdict, const NextHop& hop, uint32_t mtu, const Bytes& packet) {
    PlainOutcome outcome = so_far_;
    outcome.verdict = verdict;
    outcome.interface = hop.interface;
    std::vector<Bytes> packets = {packet};
    if (packet.size() > mtu) {
      packets = packet[0] >> 4 == 4 ? SplitIpv4(packet, mtu)
                                    : SplitIpv6(packet, mtu, path_.identification_++);
    }
    for (const Bytes& p : packets) {
      Bytes frame = BytesOf(hop.destination);
      Add(frame, BytesOf(hop.source));
      Add(frame, tags_);
      Add16(frame, p[0] >> 4 == 4 ? 0x0800 : 0x86dd);
      Add(frame, p);
      outcome.frames.push_back(frame);
    }
    return outcome;
  }

  PlainPath& path_;
  const Snapshot& snapshot_;
  const uint64_t now_;
  const uint64_t ticks_;
  const Bytes& frame_;
  const bool ip_checksum_good_;
  const uint64_t number_;
  const bool was_held_;

  Bytes tags_;  // of VLANs
  Ip ip_;
  std::optional<Ip> quote_;             // of an ICMP error
  std::vector<const Service*> at_vip_;  // those at the longest VIP around the destination
  PlainOutcome so_far_;
};

PlainOutcome PlainPath::Handle(const Bytes& frame, bool ip_checksum_good, uint64_t number,
                               const Snapshot& snapshot, uint64_t now) {
  return PlainStep(*this, frame, ip_checksum_good, number, false, snapshot, now).Run();
}

std::vector<std::pair<uint64_t, PlainOutcome>> PlainPath::Release(bool all,
                                                                  const Snapshot& snapshot,
                                                                  uint64_t now) {
  std::vector<Held> due, waiting;
  for (const Held& held : held_) {
    (all || held.is_ready || now - held.since >= kHoldNs ? due : waiting).push_back(held);
  }
  held_ = waiting;
  std::vector<std::pair<uint64_t, PlainOutcome>> outcomes;
  for (const Held& held : due) {
    PlainStep step(*this, held.frame, held.ip_checksum_good, held.number, true, snapshot, now);
    outcomes.emplace_back(held.number, step.Run());
  }
  return outcomes;
}

void PlainPath::Sweep(const Snapshot& snapshot, uint64_t now) {
  std::erase_if(connections_, [&](const auto& entry) {
    return PlainStep::IsTimedOut(entry.second, snapshot, now / kTickNs) ||
           snapshot.FindBackend(entry.second.backend) == nullptr;
  });
}

}  // namespace guideway::testing
