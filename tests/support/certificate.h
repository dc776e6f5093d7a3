// X.509 certificates made on the spot, for TLS servers of tests and benchmarks.
#ifndef GUIDEWAY_TESTS_SUPPORT_CERTIFICATE_H_
#define GUIDEWAY_TESTS_SUPPORT_CERTIFICATE_H_

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "glog/logging.h"

namespace guideway::testing {

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* t) const {
    kFree(t);
  }
};
using X509Pointer = std::unique_ptr<X509, Freed<X509_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;

struct Certificate {
  X509Pointer certificate;
  KeyPointer key;

  // As PEM.
  std::string Text() const {
    std::unique_ptr<BIO, Freed<BIO_free_all>> memory(BIO_new(BIO_s_mem()));
    CHECK(PEM_write_bio_X509(memory.get(), certificate.get()));
    char* text;
    const long size = BIO_get_mem_data(memory.get(), &text);
    return std::string(text, static_cast<size_t>(size));
  }
};

// Valid from yesterday for `days`; `names` as in «DNS:www.example.com,IP:192.0.2.1», or empty for a
// certificate authority. Signed by `issuer`, or by itself if that is null.
inline Certificate MakeCertificate(const std::string& names, const Certificate* issuer,
                                   int days = 30) {
  Certificate made{X509Pointer(X509_new()), KeyPointer(EVP_EC_gen("P-256"))};
  X509* x509 = made.certificate.get();
  CHECK(x509 != nullptr && made.key != nullptr);
  X509_set_version(x509, 2);  // the third version
  ASN1_INTEGER_set(X509_get_serialNumber(x509), issuer == nullptr ? 1 : 2);
  X509_gmtime_adj(X509_getm_notBefore(x509), -86400L);
  X509_gmtime_adj(X509_getm_notAfter(x509), 86400L * (days - 1));
  X509_set_pubkey(x509, made.key.get());
  X509_NAME* subject = X509_get_subject_name(x509);
  const std::string name = names.empty() ? "an authority" : "a server";
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  const Certificate& signer = issuer == nullptr ? made : *issuer;
  X509_set_issuer_name(x509, X509_get_subject_name(signer.certificate.get()));
  const int kind = names.empty() ? NID_basic_constraints : NID_subject_alt_name;
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(
      nullptr, nullptr, kind, names.empty() ? "critical,CA:TRUE" : names.c_str());
  CHECK(extension != nullptr);
  X509_add_ext(x509, extension, -1);
  X509_EXTENSION_free(extension);
  CHECK(X509_sign(x509, signer.key.get(), EVP_sha256()) > 0);
  return made;
}

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_CERTIFICATE_H_
