package release

import (
	"testing"
	"time"
)

// A release that waits in the store is looked at again before it serves: the key that it
// was signed with may have been revoked since.
func TestKeysThatWereRevokedSinceCountForWhatWaits(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	signed := numbered(t, 8)
	_, err := Sign(signed, b.key, time.Now())
	b.must(err)
	_, err = b.Install(opened(t, signed), b.trusts(), Options{})
	b.must(err)
	b.confirmed(id(8))
	b.puts("tiny.cache", newCache(t), 12)
	b.takes("tiny.cache", b.trusts())
	b.confirmed(ID{8, 12})
	b.puts("tiny.cache", otherCache(t, "6"), 13) // onto a revision
	b.takes("tiny.cache", b.trusts())
	other := newSigner(t)
	entries, err := b.List("tiny")
	b.must(err)
	for _, e := range entries[1:] { // 7 is unsigned
		if e.Revision > 0 && len(e.Signers) != 1 {
			t.Errorf("%s is signed by %q", e.ID(), e.Signers)
		}
		r, err := b.Get("tiny", e.ID())
		b.must(err)
		b.must(b.trusts().AdmitStored(r, e))
		revoked := b.trusts()
		revoked.Revoked = []string{b.id}
		wantRejected(t, revoked.AdmitStored(r, e), NoTrustedKey, "key "+b.id+", which is revoked")
		wantRejected(t, other.trusts().AdmitStored(r, e), NoTrustedKey, "none of releases.keys")
		b.must(takesAll.AdmitStored(r, e))
		limited := b.trusts()
		limited.Keys[0].Names = []string{"lite*"}
		wantRejected(t, limited.AdmitStored(r, e), NoTrustedKey, "trusted for lite* only, not for tiny")
		limited.Keys[0].Names = nil
		elsewhere := b.trusts()
		elsewhere.Version = "0.0.1"
		wantRejected(t, elsewhere.AdmitStored(r, e), NeedsNewerSightd)
	}
}

func TestAnUnsignedDropInIsNotServedWhereSignaturesAreDemandedByNow(t *testing.T) {
	t.Parallel()
	b := newDropBox(t)
	b.puts("tiny.cache", newCache(t), 0)
	r := b.takes("tiny.cache", takesAll)
	entries, err := b.List("tiny")
	b.must(err)
	b.must(takesAll.AdmitStored(r, entries[1]))
	wantRejected(t, b.trusts().AdmitStored(r, entries[1]), BadSignature, "was taken unsigned")
}
