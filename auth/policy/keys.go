package policy

import "strings"

// A Key names one fact about a request that a condition may ask for. Context.Lookup answers it.
type Key uint8

// The condition keys. Those of a family (tags, claims) come with the name behind the slash.
const (
	_ Key = iota
	KeySourceIP
	KeySourceZone
	KeySecureTransport
	KeyTLSVersion
	KeyClientCertSubject
	KeyProtocol
	KeyCurrentTime
	KeyEpochTime
	KeyTokenIssueTime
	KeyTokenAge
	KeyAuthMethod
	KeyPrincipalARN
	KeyPrincipalTenant
	KeyPrincipalType
	KeyPrincipalTag
	KeyUsername
	KeyUserID
	KeyResourceTenant
	KeyResourceTag
	KeyRequestTag
	KeyTagKeys
	KeySourceARN
	KeyUserAgent
	KeyKeyPrefix
	KeyKeys
	KeyKeyCount
	KeyValueSize
	KeyTTLSeconds
	KeyMaxItems
	KeyCommand
	KeyScriptSHA
	KeyJWTIssuer
	KeyJWTSubject
	KeyJWTAuthorizedParty
	KeyJWTID
	KeyJWTAudience
	KeyJWTScope
	KeyJWTGroups
	KeyJWTClaim

	keyEnd
)

// A keyType says which operators fit a key. Only the string type comes in lists.
type keyType uint8

const (
	typeString keyType = iota + 1
	typeNumeric
	typeDate
	typeBool
	typeIP
	typeARN
)

func (t keyType) String() string {
	return [...]string{"none", "string", "numeric", "date", "bool", "ip", "arn"}[t]
}

// keyTable is the one list of condition keys.
var keyTable = [keyEnd]struct {
	name   string // as documented; a family's name ends in "/"
	typ    keyType
	list   bool // several values: needs ForAllValues or ForAnyValue, and cannot be a variable
	chosen bool // the client writes it freely, so it cannot be a variable either
}{
	KeySourceIP:           {name: "cache:SourceIp", typ: typeIP},
	KeySourceZone:         {name: "cache:SourceZone", typ: typeString},
	KeySecureTransport:    {name: "cache:SecureTransport", typ: typeBool},
	KeyTLSVersion:         {name: "cache:TlsVersion", typ: typeNumeric},
	KeyClientCertSubject:  {name: "cache:ClientCertSubject", typ: typeString},
	KeyProtocol:           {name: "cache:Protocol", typ: typeString},
	KeyCurrentTime:        {name: "cache:CurrentTime", typ: typeDate},
	KeyEpochTime:          {name: "cache:EpochTime", typ: typeDate},
	KeyTokenIssueTime:     {name: "cache:TokenIssueTime", typ: typeDate},
	KeyTokenAge:           {name: "cache:TokenAge", typ: typeNumeric},
	KeyAuthMethod:         {name: "cache:AuthMethod", typ: typeString},
	KeyPrincipalARN:       {name: "cache:PrincipalArn", typ: typeARN},
	KeyPrincipalTenant:    {name: "cache:PrincipalTenant", typ: typeString},
	KeyPrincipalType:      {name: "cache:PrincipalType", typ: typeString},
	KeyPrincipalTag:       {name: "cache:PrincipalTag/", typ: typeString},
	KeyUsername:           {name: "cache:username", typ: typeString},
	KeyUserID:             {name: "cache:userid", typ: typeString},
	KeyResourceTenant:     {name: "cache:ResourceTenant", typ: typeString},
	KeyResourceTag:        {name: "cache:ResourceTag/", typ: typeString},
	KeyRequestTag:         {name: "cache:RequestTag/", typ: typeString},
	KeyTagKeys:            {name: "cache:TagKeys", typ: typeString, list: true},
	KeySourceARN:          {name: "cache:SourceArn", typ: typeARN},
	KeyUserAgent:          {name: "cache:UserAgent", typ: typeString, chosen: true},
	KeyKeyPrefix:          {name: "cache:KeyPrefix", typ: typeString},
	KeyKeys:               {name: "cache:Keys", typ: typeString, list: true},
	KeyKeyCount:           {name: "cache:KeyCount", typ: typeNumeric},
	KeyValueSize:          {name: "cache:ValueSize", typ: typeNumeric},
	KeyTTLSeconds:         {name: "cache:TTLSeconds", typ: typeNumeric},
	KeyMaxItems:           {name: "cache:MaxItems", typ: typeNumeric},
	KeyCommand:            {name: "cache:Command", typ: typeString, chosen: true},
	KeyScriptSHA:          {name: "cache:ScriptSha", typ: typeString},
	KeyJWTIssuer:          {name: "jwt:iss", typ: typeString},
	KeyJWTSubject:         {name: "jwt:sub", typ: typeString},
	KeyJWTAuthorizedParty: {name: "jwt:azp", typ: typeString},
	KeyJWTID:              {name: "jwt:jti", typ: typeString},
	KeyJWTAudience:        {name: "jwt:aud", typ: typeString, list: true},
	KeyJWTScope:           {name: "jwt:scope", typ: typeString, list: true},
	KeyJWTGroups:          {name: "jwt:groups", typ: typeString, list: true},
	KeyJWTClaim:           {name: "jwt:claim/", typ: typeString},
}

// A KeyInfo describes a condition key to people: its name ("cache:PrincipalTag/*" for a family) and its
// type ("string", "[]string", "numeric", "date", "bool", "ip" or "arn").
type KeyInfo struct{ Name, Type string }

// ConditionKeys lists every condition key, in the order of the documentation.
func ConditionKeys() []KeyInfo {
	infos := make([]KeyInfo, 0, keyEnd-1)
	for k := Key(1); k < keyEnd; k++ {
		info := KeyInfo{keyTable[k].name, keyTable[k].typ.String()}
		if keyTable[k].list {
			info.Type = "[]" + info.Type
		}
		if strings.HasSuffix(info.Name, "/") {
			info.Name += "*"
		}
		infos = append(infos, info)
	}
	return infos
}

// String is the key's documented name.
func (k Key) String() string {
	if k == 0 || k >= keyEnd {
		return "no condition key"
	}
	return keyTable[k].name
}

// A keyRef is a key as a policy names it: for a family, name is what stands behind the slash, in lower case.
type keyRef struct {
	key  Key
	name string
}

func (r keyRef) String() string { return r.key.String() + r.name }

// foldedKeys finds a key by its name in lower case.
var foldedKeys = func() map[string]Key {
	m := make(map[string]Key, keyEnd)
	for k := Key(1); k < keyEnd; k++ {
		m[strings.ToLower(keyTable[k].name)] = k
	}
	return m
}()

// lookupKey finds the key that a policy names. Letter case does not matter, also not in a tag's name.
func lookupKey(name string) (keyRef, bool) {
	name = strings.ToLower(name)
	if at := strings.IndexByte(name, '/'); at >= 0 {
		k, ok := foldedKeys[name[:at+1]]
		return keyRef{k, name[at+1:]}, ok && at+1 < len(name)
	}
	k, ok := foldedKeys[name]
	return keyRef{key: k}, ok
}
