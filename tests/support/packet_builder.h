// Builds the frames that packet tests compare byte for byte: layer by layer, the outermost first,
// each a struct of the fields a test cares about with sensible values for the rest. Lengths and
// checksums are filled in unless a test sets them.
//
//   Bytes frame = Ethernet{}.Around(Ipv4{.protocol = 6}.Around(Tcp{.flags = kTcpSyn}.Around({})));
//
// Written apart from dataplane/packet/headers.h on purpose: an error there must not cancel out
// here.
#ifndef GUIDEWAY_TESTS_SUPPORT_PACKET_BUILDER_H_
#define GUIDEWAY_TESTS_SUPPORT_PACKET_BUILDER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "maglev/net.h"

namespace guideway::testing {

using Bytes = std::vector<uint8_t>;

// «45 00 00 1c …», 16 bytes a line: what a failed comparison prints.
std::string Hex(const Bytes& bytes);

// The Internet checksum of `bytes`, odd lengths included, as a number.
uint16_t Checksum(const Bytes& bytes);

struct Ethernet {
  const char* destination = "02:00:00:00:00:01";
  const char* source = "02:00:00:00:00:aa";
  uint16_t type = 0x0800;

  Bytes Around(const Bytes& payload) const;
};

struct Ipv4 {
  const char* source = "203.0.113.7";
  const char* destination = "198.51.100.10";
  uint8_t protocol = 6;
  uint8_t version = 4;
  uint8_t tos = 0;
  uint8_t ttl = 57;
  uint16_t identification = 0x1234;
  bool dont_fragment = true;
  bool more_fragments = false;
  uint16_t fragment_offset = 0;  // in units of 8 bytes
  Bytes options;                 // a multiple of 4 bytes
  std::optional<uint8_t> header_words;
  std::optional<uint16_t> total_length;
  std::optional<uint16_t> checksum;

  Bytes Around(const Bytes& payload) const;
};

// The checksum of Tcp and Udp is a fixed number: nobody on the way looks at it.
struct Tcp {
  uint16_t source_port = 40000;
  uint16_t destination_port = 80;
  uint8_t flags = 0x10;
  uint8_t header_words = 5;

  Bytes Around(const Bytes& payload) const;
};

struct Udp {
  uint16_t source_port = 40000;
  uint16_t destination_port = 53;
  std::optional<uint16_t> length;

  Bytes Around(const Bytes& payload) const;
};

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_PACKET_BUILDER_H_
