// Messages as YAML.
#include "control/config/render_yaml.h"

#include <gtest/gtest.h>

#include <string>

#include "control/api/api.pb.h"
#include "control/config/config.pb.h"

namespace guideway {
namespace {

TEST(RenderYaml, FieldsWithoutPresenceAreAlwaysPrinted) {
  api::PacketCounters counters;
  counters.set_received(7);
  (*counters.mutable_drops())["no_backend"] = 3;
  (*counters.mutable_drops())["malformed"] = 0;
  EXPECT_EQ(RenderYaml(counters),
            "received: 7\nforwarded: 0\nreplied: 0\npunted: 0\ndropped: 0\n"
            "drops:\n  malformed: 0\n  no_backend: 3\n");
  EXPECT_EQ(RenderYaml(api::EventList()), "events: []\n");
  EXPECT_EQ(RenderYaml(config::NoSettings()), "{}\n");
}

TEST(RenderYaml, NumbersKeepTheirDigits) {
  api::TopService service;
  const auto rendered = [&](double number) {
    service.set_bits_per_second(number);
    const std::string text = RenderYaml(service);
    const std::string key = "bits_per_second: ";
    const size_t begin = text.find(key) + key.size();
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  EXPECT_EQ(rendered(0), "0");
  EXPECT_EQ(rendered(123456789), "123456789");
  EXPECT_EQ(rendered(1e21), "1000000000000000000000") << "1e+21 is text to YAML 1.1";
  EXPECT_EQ(rendered(0.1234567890123), "0.1234567890123");
  EXPECT_EQ(rendered(1e-7), "0.0000001");
}

TEST(RenderYaml, ListsOfMessages) {
  config::Config config;
  config.add_services()->set_name("web");
  config::Backend* backend = config.mutable_services(0)->add_backends();
  backend->set_name("b1");
  backend->set_weight(5);
  config.mutable_services(0)->mutable_forwarding()->mutable_gue()->set_port(1);
  config.add_services()->mutable_forwarding()->mutable_nat();
  config.add_interfaces();
  EXPECT_EQ(RenderYaml(config), R"(interfaces:
  - {}
services:
  - name: web
    vips: []
    forwarding:
      gue:
        port: 1
    backends:
      - name: b1
        weight: 5
  - vips: []
    forwarding: nat
    backends: []
)");
}

TEST(RenderYaml, TextsThatCouldBeSomethingElseAreQuoted) {
  config::Interface interface;
  for (const auto& [text, yaml] : std::initializer_list<std::pair<const char*, const char*>>{
           {"web-1", "web-1"},
           {"192.0.2.1", "192.0.2.1"},
           {"net_tap0,iface=gw", "net_tap0,iface=gw"},
           {"/run/x.sock", "/run/x.sock"},
           {"", "\"\""},
           {"12", "\"12\""},
           {"1.5", "\"1.5\""},
           {"1e5", "\"1e5\""},
           {"0x1f", "\"0x1f\""},
           {"1_000", "\"1_000\""},
           {"2026-01-01", "\"2026-01-01\""},
           {"yes", "\"yes\""},
           {"Off", "\"Off\""},
           {"null", "\"null\""},
           {"-", "\"-\""},
           {"a b", "\"a b\""},
           {"a: b", "\"a: b\""},
           {"a#b", "\"a#b\""},
           {"::1", "\"::1\""},
           {"say \"hi\"\\\n\x01", "\"say \\\"hi\\\"\\\\\\n\\x01\""},
           {"é", "\"é\""}}) {
    interface.set_device(text);
    EXPECT_EQ(RenderYaml(interface), std::string("device: ") + yaml + "\n");
  }
}

TEST(RenderYaml, ShortListsStayOnOneLine) {
  config::Access access;
  for (const char* path : {"a", "b,c", "12"}) access.add_deny_files(path);
  EXPECT_EQ(RenderYaml(access), "deny_files: [a, \"b,c\", \"12\"]\n");
  for (int i = 0; i < 3; ++i) access.add_deny_files(std::string(30, 'x'));
  EXPECT_EQ(RenderYaml(access),
            "deny_files:\n  - a\n  - b,c\n  - \"12\"\n" + ("  - " + std::string(30, 'x') + "\n") +
                ("  - " + std::string(30, 'x') + "\n") + ("  - " + std::string(30, 'x') + "\n"));
}

}  // namespace
}  // namespace guideway
