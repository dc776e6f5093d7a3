#include "dataplane/packet/packet_text.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "maglev/headers.h"

namespace guideway {
namespace {

using Kind = PacketText::Kind;

constexpr struct {
  absl::string_view name;
  Kind kind;
} kKinds[] = {{"tcp", Kind::kTcp}, {"udp", Kind::kUdp}, {"icmp", Kind::kIcmp}};

absl::string_view NameOf(Kind kind) {
  return std::find_if(std::begin(kKinds), std::end(kKinds),
                      [&](const auto& row) { return row.kind == kind; })
      ->name;
}

// What was found, in quotes; of much, the beginning.
std::string Quoted(absl::string_view text) {
  constexpr size_t kShown = 80;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kShown)),
                      text.size() > kShown ? "…" : "", "\"");
}

// --- reading the text ----------------------------------------------------------------------------

struct Endpoint {
  IpAddress address;
  uint16_t port = 0;
};

// «[2001:db8::7]:40000», «203.0.113.7»
std::string EndpointText(const IpAddress& address, uint16_t port) {
  return absl::StrCat(address.is_v6() ? "[" : "", address.ToString(), address.is_v6() ? "]" : "",
                      port != 0 ? absl::StrCat(":", port) : "");
}

// Reads one side. `name` is which, for the error.
absl::StatusOr<Endpoint> ReadEndpoint(absl::string_view name, absl::string_view text, Kind kind) {
  const bool has_port = kind != Kind::kIcmp;
  const auto wrong = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat("the ", name, what...));
  };
  const auto no_port = [&](const IpAddress& address) {
    return wrong(" has no port; allowed is ", EndpointText(address, 0), ":PORT");
  };
  const std::string allowed = has_port ? "allowed are 203.0.113.7:40000, [2001:db8::7]:40000"
                                       : "allowed are 203.0.113.7, 2001:db8::7, [2001:db8::7]";
  if (text.empty()) return wrong(" is missing; ", allowed);

  Endpoint endpoint;
  absl::string_view address = text, port;
  bool port_follows = false;
  const bool has_brackets = absl::ConsumePrefix(&address, "[");
  if (has_brackets) {
    const size_t end = address.find(']');
    if (end == absl::string_view::npos) return wrong(" ", Quoted(text), " has no \"]\"; ", allowed);
    port = address.substr(end + 1);
    address = address.substr(0, end);
    port_follows = absl::ConsumePrefix(&port, ":");
    if (!port_follows && !port.empty()) {
      return wrong(" has ", Quoted(port), " after \"]\"; ", allowed);
    }
  } else if (const auto colons = std::count(text.begin(), text.end(), ':'); colons == 1) {
    address = text.substr(0, text.find(':'));
    port = text.substr(address.size() + 1);
    port_follows = true;
  } else if (colons > 1 && has_port) {
    return wrong(" ", Quoted(text), " has no brackets, but several colons; ", allowed);
  }

  const absl::StatusOr<IpAddress> parsed = IpAddress::Parse(address);
  if (!parsed.ok() || (has_brackets && !parsed->is_v6())) {
    return wrong(": ", Quoted(address), " is not an ", has_brackets ? "IPv6" : "IPv4 or IPv6",
                 " address; ", allowed);
  }
  endpoint.address = *parsed;
  if (!has_port) {
    if (port_follows) return wrong(" has a port, ", Quoted(port), "; icmp has none");
    return endpoint;
  }
  if (!port_follows) return no_port(*parsed);
  int number = 0;
  if (port.empty() || port.size() > 5 ||
      !std::all_of(port.begin(), port.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(port, &number) || number < 1 || number > UINT16_MAX) {
    return wrong(" has the port ", Quoted(port), "; allowed is 1 to 65535");
  }
  endpoint.port = static_cast<uint16_t>(number);
  return endpoint;
}

// Cuts the first word off.
absl::string_view ConsumeWord(absl::string_view* text) {
  const auto end = std::find_if(text->begin(), text->end(), absl::ascii_isspace);
  const auto size = static_cast<size_t>(end - text->begin());
  const absl::string_view word = text->substr(0, size);
  *text = absl::StripLeadingAsciiWhitespace(text->substr(size));
  return word;
}

absl::StatusOr<PacketText> Read(absl::string_view text) {
  const auto wrong = [](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(what...));
  };
  text = absl::StripAsciiWhitespace(text);
  if (text.empty())
    return wrong("allowed is, for example, tcp 203.0.113.7:40000 > 198.51.100.10:80");
  const absl::string_view name = ConsumeWord(&text);
  const auto* const kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                        [&](const auto& row) { return row.name == name; });
  if (kind == std::end(kKinds)) {
    return wrong("the first word, the protocol, is ", Quoted(name), "; allowed are tcp, udp, icmp");
  }
  const size_t arrow = text.find('>');
  if (arrow == absl::string_view::npos) {
    return wrong(
        "there is no \">\"; allowed is SOURCE > DESTINATION, in quotes or the shell takes "
        "it for a file's");
  }
  absl::string_view rest = absl::StripLeadingAsciiWhitespace(text.substr(arrow + 1));
  if (absl::StrContains(rest, '>')) return wrong("there is a second \">\"; allowed is one");
  const absl::StatusOr<Endpoint> source =
      ReadEndpoint("source", absl::StripAsciiWhitespace(text.substr(0, arrow)), kind->kind);
  if (!source.ok()) return source.status();
  const absl::StatusOr<Endpoint> destination =
      ReadEndpoint("destination", ConsumeWord(&rest), kind->kind);
  if (!destination.ok()) return destination.status();
  if (source->address.bits() != destination->address.bits()) {
    return wrong("the source is of ", source->address.is_v4() ? "IPv4" : "IPv6",
                 " and the destination of ", destination->address.is_v4() ? "IPv4" : "IPv6",
                 "; allowed are two of one family");
  }
  const bool may_be_syn = kind->kind == Kind::kTcp;
  if (!rest.empty() && !(may_be_syn && rest == "syn")) {
    return wrong("after the destination there is ", Quoted(rest), "; allowed is ",
                 may_be_syn ? "syn" : "nothing (syn is for tcp)");
  }
  return PacketText{.kind = kind->kind,
                    .source = source->address,
                    .destination = destination->address,
                    .source_port = source->port,
                    .destination_port = destination->port,
                    .syn = !rest.empty()};
}

// --- making the frame ----------------------------------------------------------------------------

constexpr uint8_t kTimeToLive = 64;
constexpr uint16_t kTypeIpv6 = NetworkOrder(0x86dd);

// RFC 8200, section 3.
struct V6Header {
  uint8_t version_and_class;  // 4 bits of version; then traffic class and flow label
  uint8_t class_and_label[3];
  uint16_t payload_length;
  uint8_t next_header;
  uint8_t hop_limit;
  uint8_t source[16];
  uint8_t destination[16];
};
static_assert(sizeof(V6Header) == 40);

// RFC 792 and RFC 4443: a request for an echo.
struct EchoHeader {
  uint8_t type;
  uint8_t code;
  uint16_t checksum;
  uint16_t identifier;
  uint16_t sequence;
};
static_assert(sizeof(EchoHeader) == 8);
constexpr uint8_t kNextIcmpv6 = 58;
constexpr uint8_t kEcho = 8, kEchoV6 = 128;
constexpr size_t kEchoData = 8;

template <typename Header>
void Append(std::vector<uint8_t>& bytes, const Header& header) {
  bytes.resize(bytes.size() + sizeof(header));
  Write(bytes.data() + bytes.size() - sizeof(header), header);
}

uint8_t ProtocolNumber(const PacketText& packet) {
  switch (packet.kind) {
    case Kind::kTcp: return kProtocolTcp;
    case Kind::kUdp: return kProtocolUdp;
    case Kind::kIcmp: break;
  }
  return packet.source.is_v6() ? kNextIcmpv6 : kProtocolIcmp;
}

// The checksum of a transport header and what follows it, with the addresses where they count (RFC
// 8200, section 8.1; over so few bytes IPv4's is the same sum). `bytes` have zeros in its place.
uint16_t TransportChecksum(const PacketText& packet, const std::vector<uint8_t>& bytes) {
  std::vector<uint8_t> summed;
  if (packet.kind != Kind::kIcmp || packet.source.is_v6()) {
    const int size = packet.source.bits() / 8;
    summed.insert(summed.end(), packet.source.bytes(), packet.source.bytes() + size);
    summed.insert(summed.end(), packet.destination.bytes(), packet.destination.bytes() + size);
    Append(summed, NetworkOrder(static_cast<uint16_t>(bytes.size())));
    Append(summed, NetworkOrder(ProtocolNumber(packet)));
  }
  summed.insert(summed.end(), bytes.begin(), bytes.end());
  return InternetChecksum(summed.data(), summed.size());
}

std::vector<uint8_t> Transport(const PacketText& packet) {
  std::vector<uint8_t> bytes;
  const uint16_t source_port = NetworkOrder(packet.source_port);
  const uint16_t destination_port = NetworkOrder(packet.destination_port);
  switch (packet.kind) {
    case Kind::kTcp: {
      TcpHeader tcp = {.source_port = source_port,
                       .destination_port = destination_port,
                       .data_offset = sizeof(TcpHeader) / 4 << 4,
                       .flags = packet.syn ? kTcpSyn : kTcpAck,
                       .window = UINT16_MAX};
      Append(bytes, tcp);
      tcp.checksum = TransportChecksum(packet, bytes);
      Write(bytes.data(), tcp);
      break;
    }
    case Kind::kUdp: {
      UdpHeader udp = {.source_port = source_port,
                       .destination_port = destination_port,
                       .length = NetworkOrder(sizeof(UdpHeader))};
      Append(bytes, udp);
      udp.checksum = TransportChecksum(packet, bytes);
      // 0 would say that there is none.
      if (udp.checksum == 0) udp.checksum = UINT16_MAX;
      Write(bytes.data(), udp);
      break;
    }
    case Kind::kIcmp: {
      EchoHeader echo = {.type = packet.source.is_v6() ? kEchoV6 : kEcho};
      Append(bytes, echo);
      bytes.resize(bytes.size() + kEchoData);
      echo.checksum = TransportChecksum(packet, bytes);
      Write(bytes.data(), echo);
      break;
    }
  }
  return bytes;
}

}  // namespace

absl::StatusOr<PacketText> PacketText::Parse(absl::string_view text) {
  absl::StatusOr<PacketText> packet = Read(text);
  if (packet.ok()) return packet;
  return absl::InvalidArgumentError(absl::StrCat(Quoted(text), ": ", packet.status().message()));
}

std::string PacketText::ToString() const {
  return absl::StrCat(NameOf(kind), " ", EndpointText(source, source_port), " > ",
                      EndpointText(destination, destination_port), syn ? " syn" : "");
}

FlowKey PacketText::Key() const {
  FlowKey key = {};
  std::copy_n(source.bytes(), source.bits() / 8, key.source);
  std::copy_n(destination.bytes(), destination.bits() / 8, key.destination);
  key.source_port = NetworkOrder(source_port);
  key.destination_port = NetworkOrder(destination_port);
  key.protocol = ProtocolNumber(*this);
  key.version = source.is_v6() ? 6 : 4;
  return key;
}

std::vector<uint8_t> PacketText::Frame() const {
  const std::vector<uint8_t> transport = Transport(*this);
  std::vector<uint8_t> frame;
  Append(frame, EthernetHeader{.destination = {{0x02, 0, 0, 0, 0, 0x01}},
                               .source = {{0x02, 0, 0, 0, 0, 0x02}},
                               .type = source.is_v6() ? kTypeIpv6 : kEtherTypeIpv4});
  if (source.is_v6()) {
    V6Header ip = {.version_and_class = 6 << 4,
                   .payload_length = NetworkOrder(static_cast<uint16_t>(transport.size())),
                   .next_header = ProtocolNumber(*this),
                   .hop_limit = kTimeToLive};
    std::copy_n(source.bytes(), sizeof(ip.source), ip.source);
    std::copy_n(destination.bytes(), sizeof(ip.destination), ip.destination);
    Append(frame, ip);
  } else {
    Ipv4Header ip = {
        .version_and_length = 4 << 4 | sizeof(Ipv4Header) / 4,
        .total_length = NetworkOrder(static_cast<uint16_t>(sizeof(Ipv4Header) + transport.size())),
        .fragment = kDontFragment,
        .time_to_live = kTimeToLive,
        .protocol = ProtocolNumber(*this)};
    std::copy_n(source.bytes(), sizeof(ip.source), ip.source);
    std::copy_n(destination.bytes(), sizeof(ip.destination), ip.destination);
    ip.checksum = InternetChecksum(&ip, sizeof(ip));
    Append(frame, ip);
  }
  frame.insert(frame.end(), transport.begin(), transport.end());
  return frame;
}

}  // namespace guideway
