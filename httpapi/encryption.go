package httpapi

import (
	"net/http"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/snapshots"
	"github.com/larder-cache/larder/tenants"
)

// These routes are about the key that a tenant's snapshots are encrypted with, and about the master key that wraps all of those.
func (a *API) encryptionRoutes() []route {
	const key = "/v1/encryption-key"
	return []route{
		{method: http.MethodGet, path: key, manage: true, serve: (*exchange).describeEncryptionKey},
		{method: http.MethodPost, path: key + "/rotate", manage: true, serve: (*exchange).rotateEncryptionKey},
		{method: http.MethodPost, path: key + "/rewrap", manage: true, serve: (*exchange).rewrapSnapshots},
		{method: http.MethodPost, path: key + "/shred", manage: true, serve: (*exchange).shredEncryptionKey},
		{method: http.MethodDelete, path: key + "/shred", manage: true, serve: (*exchange).unshredEncryptionKey},
		{method: http.MethodPost, path: "/v1/cluster/master-key/rotate", manage: true, serve: (*exchange).rotateMasterKey},
	}
}

// EncryptionKey is what is known of the key that a tenant's snapshots are encrypted with. The key itself is never told.
type EncryptionKey struct {
	ID          string  `json:"id" example:"9f3a61c29f3a61c2"` // of the version that encrypts; empty: there is none yet, or none any more
	MadeAt      *string `json:"made_at" example:"2026-11-27T08:15:00.000Z"`
	Versions    int     `json:"versions" example:"2"`                            // that decrypt
	MasterKey   string  `json:"master_key" example:"1f0e63a1d2c4b5a6"`           // the name of the key that wraps it
	Stale       int     `json:"stale_snapshots" example:"3"`                     // whose data keys are wrapped by older versions: see rewrap
	ShreddedAt  *string `json:"shredded_at" example:"2026-12-04T08:15:00.000Z"`  // since then nothing is decrypted
	DestroyAt   *string `json:"destroy_at" example:"2026-12-04T08:15:00.000Z"`   // when what was shredded is destroyed
	DestroyedAt *string `json:"destroyed_at" example:"2026-12-04T08:15:00.000Z"` // when keys were destroyed last
}

// mayOnKey checks a right on the tenant's key, and returns the tenant's id.
func (x *exchange) mayOnKey(action policy.Action) (string, error) {
	on := policy.NewResource("iam", x.api.Gateway.Region(), x.who().Tenant, "key", "encryption")
	if err := x.api.Gateway.Authorize(&x.caller, action, on); err != nil {
		return "", err
	}
	return x.tenantID()
}

func showKeyInfo(k snapshots.KeyInfo) EncryptionKey {
	return EncryptionKey{
		ID: k.ID, MadeAt: showSome(k.Made), Versions: k.Versions, MasterKey: k.Master, Stale: k.Stale,
		ShreddedAt: showSome(k.Shredded), DestroyAt: showSome(k.DestroyAt), DestroyedAt: showSome(k.Destroyed),
	}
}

// describeEncryptionKey serves GET /v1/encryption-key.
//
// @Summary     Describe the key that the tenant's snapshots are encrypted with
// @Tags        encryption
// @Success     200 {object} EncryptionKey
// @Failure     default {object} Problem
// @Router      /v1/encryption-key [get]
func (x *exchange) describeEncryptionKey() error {
	if err := x.query().end(); err != nil {
		return err
	}
	tenant, err := x.mayOnKey(policy.KMSDescribeTenantKey)
	if err != nil {
		return err
	}
	info, _ := x.api.Snapshots.Key(x.who().Tenant, tenant)
	return x.json(http.StatusOK, showKeyInfo(info))
}

// rotateEncryptionKey serves POST /v1/encryption-key/rotate.
//
// @Summary     Give the tenant's key a new version
// @Description Snapshots that are made from now on are encrypted with it. Older ones stay as they are, and readable: see rewrap.
// @Tags        encryption
// @Success     200 {object} EncryptionKey
// @Failure     default {object} Problem
// @Router      /v1/encryption-key/rotate [post]
func (x *exchange) rotateEncryptionKey() error {
	if err := x.noBody(); err != nil {
		return err
	}
	tenant, err := x.mayOnKey(policy.KMSRotateTenantKey)
	if err != nil {
		return err
	}
	info, err := x.api.Snapshots.RotateKey(x.Request().Context(), x.who().Tenant, tenant)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showKeyInfo(info))
}

// RewrapRequest says what becomes of older versions.
type RewrapRequest struct {
	Retire bool `json:"retire,omitempty" example:"false"` // older versions are destroyed afterwards
}

// Rewrapped says how many keys were wrapped anew.
type Rewrapped struct {
	Rewrapped int `json:"rewrapped" example:"3"`
}

// rewrapSnapshots serves POST /v1/encryption-key/rewrap.
//
// @Summary     Have the newest version of the tenant's key wrap the data keys of all snapshots
// @Description Without touching the snapshots. Afterwards older versions may be retired; files of older snapshots that were downloaded cannot be read by anybody then.
// @Tags        encryption
// @Param       request body RewrapRequest true "what becomes of older versions"
// @Success     200 {object} Rewrapped
// @Failure     default {object} Problem
// @Router      /v1/encryption-key/rewrap [post]
func (x *exchange) rewrapSnapshots() error {
	var req RewrapRequest
	if err := x.read(&req); err != nil {
		return err
	}
	tenant, err := x.mayOnKey(policy.KMSRotateTenantKey)
	if err != nil {
		return err
	}
	n, err := x.api.Snapshots.RewrapKeys(x.Request().Context(), x.who().Tenant, tenant, req.Retire)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, Rewrapped{n})
}

// ShredRequest confirms that all snapshots of the tenant become unreadable.
type ShredRequest struct {
	Confirm string  `json:"confirm" maxLength:"63" example:"acme"`                   // the tenant's name
	Wait    *string `json:"wait,omitempty" maxLength:"32" default:"7d" example:"7d"` // until the key is destroyed, within which it can be taken back; 0s: at once
}

// shredEncryptionKey serves POST /v1/encryption-key/shred.
//
// @Summary     Make all snapshots of the tenant unreadable
// @Description At once and everywhere, copies of the files included. After a while the key is destroyed; until then it can be taken back.
// @Tags        encryption
// @Param       request body ShredRequest true "the confirmation"
// @Success     200 {object} EncryptionKey
// @Failure     default {object} Problem
// @Router      /v1/encryption-key/shred [post]
func (x *exchange) shredEncryptionKey() error {
	var req ShredRequest
	if err := x.read(&req); err != nil {
		return err
	}
	tenant, err := x.mayOnKey(policy.KMSShredTenantKey)
	if err != nil {
		return err
	}
	if req.Confirm != x.who().Tenant {
		return fault.About(fault.Conflict, "encryption.shred", "confirm", "confirm is the tenant's name, %q, to say that none of its snapshots is to be readable any more", x.who().Tenant)
	}
	wait := snapshots.ShredWait
	if req.Wait != nil && *req.Wait == "0s" {
		wait = 0
	} else if req.Wait != nil {
		ms, err := parseDuration("wait", *req.Wait)
		if err != nil {
			return err
		}
		wait = time.Duration(ms) * time.Millisecond
	}
	if err := x.api.Snapshots.ShredKeys(x.Request().Context(), x.who().Tenant, tenant, wait); err != nil {
		return err
	}
	info, _ := x.api.Snapshots.Key(x.who().Tenant, tenant)
	return x.json(http.StatusOK, showKeyInfo(info))
}

// unshredEncryptionKey serves DELETE /v1/encryption-key/shred.
//
// @Summary     Take back that the tenant's key is shredded
// @Description As long as it has not been destroyed.
// @Tags        encryption
// @Success     204 "snapshots are readable again"
// @Failure     default {object} Problem
// @Router      /v1/encryption-key/shred [delete]
func (x *exchange) unshredEncryptionKey() error {
	if err := x.query().end(); err != nil {
		return err
	}
	tenant, err := x.mayOnKey(policy.KMSShredTenantKey)
	if err != nil {
		return err
	}
	if err := x.api.Snapshots.UnshredKeys(x.Request().Context(), x.who().Tenant, tenant); err != nil {
		return err
	}
	return x.noContent()
}

// rotateMasterKey serves POST /v1/cluster/master-key/rotate.
//
// @Summary     Have the newest master key wrap the keys of all tenants
// @Description Where the master key is a file, it gets a new key first, on all nodes. One that is in a key management service is rotated there.
// @Tags        cluster
// @Success     200 {object} Rewrapped
// @Failure     default {object} Problem
// @Router      /v1/cluster/master-key/rotate [post]
func (x *exchange) rotateMasterKey() error {
	if err := x.noBody(); err != nil {
		return err
	}
	on := policy.NewResource("iam", x.api.Gateway.Region(), tenants.System, "key", "encryption")
	if err := x.api.Gateway.Authorize(&x.caller, policy.AdminRotateMasterKey, on); err != nil {
		return err
	}
	n, err := x.api.RotateMaster(x.Request().Context())
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, Rewrapped{n})
}
