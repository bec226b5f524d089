package auth

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
)

// MethodCertificate is how a caller proved who it is that showed a TLS client certificate.
const MethodCertificate = "certificate"

// LoginCertificate lets a client of a socket protocol in by the leaf of its TLS client certificate, which the caller has had
// verified against the installation's authorities for clients. The user is as in Login.
//
// A certificate names an API key by its id: as the one URI cache://key/<id> among its alternative names or, without such a
// URI, as the common name of its subject. Ids of keys are drawn by us and never used again, so no tenant can claim a
// certificate that was made out for another's key, and the authority need not know of tenants. The key has to say that it
// is for certificates: a wrong certificate opens none that does not. The connection lasts as long as the certificate, and
// ends with the key.
func (a *Authenticator) LoginCertificate(user string, leaf *x509.Certificate, source netip.Addr) (p *Principal, cache string, err error) {
	now := a.s.now()
	p, err = a.s.certificatePrincipal(leaf)
	if err == nil && p.expired(now) {
		err = refuse(Expired, "certificate: expired")
	}
	if err == nil {
		err = p.admit(UseData, source)
	}
	if refusal, ok := err.(*Refusal); ok {
		err = refused(refusal) // nothing is counted: who has a certificate does not guess
	}
	if err != nil {
		return nil, "", err
	}
	touch(p.used, now)
	return p, p.cacheFor(user), nil
}

// ClientCertificate is the certificate that the client of a connection has shown, if it was verified; nil otherwise.
func ClientCertificate(state *tls.ConnectionState) *x509.Certificate {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}

// certificatePrincipal makes the principal of a connection that a certificate lets in.
func (s *Store) certificatePrincipal(leaf *x509.Certificate) (*Principal, error) {
	id, err := keyOfCertificate(leaf)
	if err != nil {
		return nil, err
	}
	k, ok := s.key(id)
	if !ok || !k.record.ClientCertificate {
		return nil, refuse(UnknownKey, "certificate: no such key, or not one for certificates")
	}
	p, err := s.keyPrincipal(id, k.digest, s.now())
	if err != nil {
		return nil, err
	}
	p.visit(MethodCertificate, leaf.NotAfter)
	return p, nil
}

// keyOfCertificate finds the id of the key that a certificate names.
func keyOfCertificate(leaf *x509.Certificate) (id string, err error) {
	id = leaf.Subject.CommonName
	named := false
	for _, u := range leaf.URIs {
		if u.Scheme != "cache" || u.Host != "key" {
			continue
		}
		if named {
			return "", refuse(BadClaims, "certificate: it names several keys")
		}
		named = true
		if id = ""; u.User == nil && u.RawQuery == "" && u.Fragment == "" && len(u.Path) > 0 {
			id = u.Path[1:]
		}
	}
	if len(id) != keyIDLen || !alphanumeric(id) {
		return "", refuse(BadClaims, "certificate: it names no key")
	}
	return id, nil
}
