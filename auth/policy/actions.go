package policy

import "strings"

// An Action names what a request does, as "service:Name". It is a small number, so that a compiled
// statement can hold the set of actions it covers as bits. The zero Action is none at all, and a
// request that carries it is an error.
type Action uint8

// The actions, in the order of the documentation: data, then control, then the operator's.
const (
	_ Action = iota
	CacheConnect
	CacheGet
	CacheGetRange
	CacheExists
	CacheTTL
	CacheInspect
	CacheScan
	CacheSet
	CacheAppend
	CacheIncrement
	CacheCompareAndSet
	CacheDelete
	CacheDeleteByPrefix
	CacheExpire
	CachePersist
	CacheRename
	CacheCopy
	CacheFlush
	CacheHashRead
	CacheHashWrite
	CacheListRead
	CacheListWrite
	CacheSetRead
	CacheSetWrite
	CacheSortedSetRead
	CacheSortedSetWrite
	CacheStreamRead
	CacheStreamWrite
	CacheEvalScript
	CacheLoadScript
	TopicPublish
	TopicSubscribe
	LeaderboardCreate
	LeaderboardUpsert
	LeaderboardIncrement
	LeaderboardRemove
	LeaderboardGetRank
	LeaderboardFetchByRank
	LeaderboardFetchByScore
	LeaderboardLength
	LeaderboardReset
	LeaderboardDelete
	LeaderboardList

	CacheCreateCache
	CacheDeleteCache
	CacheDescribeCache
	CacheListCaches
	CacheUpdateCache
	CacheTagCache
	CacheCreateEndpoint
	CacheListEndpoints
	CacheDeleteEndpoint
	CacheGetCachePolicy
	CachePutCachePolicy
	CacheDeleteCachePolicy

	SnapshotCreate
	SnapshotList
	SnapshotDescribe
	SnapshotRestore
	SnapshotDelete
	SnapshotExport
	SnapshotCopy

	IAMCreateKey
	IAMRotateKey
	IAMRevokeKey
	IAMListKeys
	IAMCreateRole
	IAMDeleteRole
	IAMPutPolicy
	IAMDeletePolicy
	IAMGetPolicy
	IAMSimulatePolicy
	IAMCreateToken
	IAMRevokeTokens
	IAMPutIssuer
	IAMDeleteIssuer

	KMSRotateTenantKey
	KMSShredTenantKey
	KMSDescribeTenantKey

	AuditRead

	MetricsRead

	QuotaGet

	AdminCreateTenant
	AdminSuspendTenant
	AdminDeleteTenant
	AdminSetQuota
	AdminDrainNode
	AdminMovePartition
	AdminFailoverPartition
	AdminRotateMasterKey
	AdminReadCluster

	actionEnd // one past the last; actionSet counts on it staying below 128
)

// An access class says which ready-made roles hold an action.
type access uint8

const (
	reads    access = iota + 1 // looks at data
	writes                     // changes data, or runs what may change it
	controls                   // changes or lists what a tenant owns: caches, keys, snapshots, …
	operates                   // the operator's plane, open to principals of the tenant "system" only
)

// actions is the one list of actions: the name a policy uses, and its class.
var actions = [actionEnd]struct {
	name  string
	class access
}{
	CacheConnect:            {"cache:Connect", reads},
	CacheGet:                {"cache:Get", reads},
	CacheGetRange:           {"cache:GetRange", reads},
	CacheExists:             {"cache:Exists", reads},
	CacheTTL:                {"cache:TTL", reads},
	CacheInspect:            {"cache:Inspect", reads},
	CacheScan:               {"cache:Scan", reads},
	CacheSet:                {"cache:Set", writes},
	CacheAppend:             {"cache:Append", writes},
	CacheIncrement:          {"cache:Increment", writes},
	CacheCompareAndSet:      {"cache:CompareAndSet", writes},
	CacheDelete:             {"cache:Delete", writes},
	CacheDeleteByPrefix:     {"cache:DeleteByPrefix", writes},
	CacheExpire:             {"cache:Expire", writes},
	CachePersist:            {"cache:Persist", writes},
	CacheRename:             {"cache:Rename", writes},
	CacheCopy:               {"cache:Copy", writes},
	CacheFlush:              {"cache:Flush", writes},
	CacheHashRead:           {"cache:HashRead", reads},
	CacheHashWrite:          {"cache:HashWrite", writes},
	CacheListRead:           {"cache:ListRead", reads},
	CacheListWrite:          {"cache:ListWrite", writes},
	CacheSetRead:            {"cache:SetRead", reads},
	CacheSetWrite:           {"cache:SetWrite", writes},
	CacheSortedSetRead:      {"cache:SortedSetRead", reads},
	CacheSortedSetWrite:     {"cache:SortedSetWrite", writes},
	CacheStreamRead:         {"cache:StreamRead", reads},
	CacheStreamWrite:        {"cache:StreamWrite", writes},
	CacheEvalScript:         {"cache:EvalScript", writes},
	CacheLoadScript:         {"cache:LoadScript", writes},
	TopicPublish:            {"topic:Publish", writes},
	TopicSubscribe:          {"topic:Subscribe", reads},
	LeaderboardCreate:       {"leaderboard:Create", writes},
	LeaderboardUpsert:       {"leaderboard:Upsert", writes},
	LeaderboardIncrement:    {"leaderboard:Increment", writes},
	LeaderboardRemove:       {"leaderboard:Remove", writes},
	LeaderboardGetRank:      {"leaderboard:GetRank", reads},
	LeaderboardFetchByRank:  {"leaderboard:FetchByRank", reads},
	LeaderboardFetchByScore: {"leaderboard:FetchByScore", reads},
	LeaderboardLength:       {"leaderboard:Length", reads},
	LeaderboardReset:        {"leaderboard:Reset", writes},
	LeaderboardDelete:       {"leaderboard:Delete", writes},
	LeaderboardList:         {"leaderboard:List", reads},
	CacheCreateCache:        {"cache:CreateCache", controls},
	CacheDeleteCache:        {"cache:DeleteCache", controls},
	CacheDescribeCache:      {"cache:DescribeCache", controls},
	CacheListCaches:         {"cache:ListCaches", controls},
	CacheUpdateCache:        {"cache:UpdateCache", controls},
	CacheTagCache:           {"cache:TagCache", controls},
	CacheCreateEndpoint:     {"cache:CreateEndpoint", controls},
	CacheListEndpoints:      {"cache:ListEndpoints", controls},
	CacheDeleteEndpoint:     {"cache:DeleteEndpoint", controls},
	CacheGetCachePolicy:     {"cache:GetCachePolicy", controls},
	CachePutCachePolicy:     {"cache:PutCachePolicy", controls},
	CacheDeleteCachePolicy:  {"cache:DeleteCachePolicy", controls},
	SnapshotCreate:          {"snapshot:Create", controls},
	SnapshotList:            {"snapshot:List", controls},
	SnapshotDescribe:        {"snapshot:Describe", controls},
	SnapshotRestore:         {"snapshot:Restore", controls},
	SnapshotDelete:          {"snapshot:Delete", controls},
	SnapshotExport:          {"snapshot:Export", controls},
	SnapshotCopy:            {"snapshot:Copy", controls},
	IAMCreateKey:            {"iam:CreateKey", controls},
	IAMRotateKey:            {"iam:RotateKey", controls},
	IAMRevokeKey:            {"iam:RevokeKey", controls},
	IAMListKeys:             {"iam:ListKeys", controls},
	IAMCreateRole:           {"iam:CreateRole", controls},
	IAMDeleteRole:           {"iam:DeleteRole", controls},
	IAMPutPolicy:            {"iam:PutPolicy", controls},
	IAMDeletePolicy:         {"iam:DeletePolicy", controls},
	IAMGetPolicy:            {"iam:GetPolicy", controls},
	IAMSimulatePolicy:       {"iam:SimulatePolicy", controls},
	IAMCreateToken:          {"iam:CreateToken", controls},
	IAMRevokeTokens:         {"iam:RevokeTokens", controls},
	IAMPutIssuer:            {"iam:PutIssuer", controls},
	IAMDeleteIssuer:         {"iam:DeleteIssuer", controls},
	KMSRotateTenantKey:      {"kms:RotateTenantKey", controls},
	KMSShredTenantKey:       {"kms:ShredTenantKey", controls},
	KMSDescribeTenantKey:    {"kms:DescribeTenantKey", controls},
	AuditRead:               {"audit:Read", controls},
	MetricsRead:             {"metrics:Read", controls},
	QuotaGet:                {"quota:Get", controls},
	AdminCreateTenant:       {"admin:CreateTenant", operates},
	AdminSuspendTenant:      {"admin:SuspendTenant", operates},
	AdminDeleteTenant:       {"admin:DeleteTenant", operates},
	AdminSetQuota:           {"admin:SetQuota", operates},
	AdminDrainNode:          {"admin:DrainNode", operates},
	AdminMovePartition:      {"admin:MovePartition", operates},
	AdminFailoverPartition:  {"admin:FailoverPartition", operates},
	AdminRotateMasterKey:    {"admin:RotateMasterKey", operates},
	AdminReadCluster:        {"admin:ReadCluster", operates},
}

// folded finds an action by its name in lower case.
var folded = func() map[string]Action {
	m := make(map[string]Action, actionEnd)
	for a := Action(1); a < actionEnd; a++ {
		m[strings.ToLower(actions[a].name)] = a
	}
	return m
}()

// String is the name a policy uses, such as "cache:Get".
func (a Action) String() string {
	if a == 0 || a >= actionEnd {
		return "no action"
	}
	return actions[a].name
}

// Actions lists the name of every action, in the order of the documentation.
func Actions() []string {
	names := make([]string, 0, actionEnd-1)
	for a := Action(1); a < actionEnd; a++ {
		names = append(names, actions[a].name)
	}
	return names
}

// LookupAction finds an action by its name, whose letter case does not matter.
// Look names up once, where a table is built: a request carries the Action.
func LookupAction(name string) (Action, bool) {
	a, ok := folded[strings.ToLower(name)]
	return a, ok
}

// An actionSet holds one bit for each action.
type actionSet [2]uint64

func (s *actionSet) add(a Action)      { s[a>>6] |= 1 << (a & 63) }
func (s *actionSet) has(a Action) bool { return s[a>>6&1]&(1<<(a&63)) != 0 }
func (s actionSet) empty() bool        { return s == actionSet{} }

// others is every action that s does not hold: what NotAction stands for.
func (s actionSet) others() actionSet {
	var rest actionSet
	for a := Action(1); a < actionEnd; a++ {
		if !s.has(a) {
			rest.add(a)
		}
	}
	return rest
}

// matchingActions is the set of actions that a pattern such as "cache:*Read" covers.
func matchingActions(pattern string) actionSet {
	var set actionSet
	g := literalGlob(strings.ToLower(pattern))
	for name, a := range folded {
		if g.match(nil, name) {
			set.add(a)
		}
	}
	return set
}
