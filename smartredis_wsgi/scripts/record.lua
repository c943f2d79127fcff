-- What every script of the store begins with: what lies at a key, and how long it may.
-- Returns nothing: these are functions.

-- The field that holds what is no field: "incarnation version created owner size ttl since
-- fresh nonces", by spaces. Created and ttl in ms, ttl "-" where the session has none of its
-- own; the owner as in its index's key, "-" where nobody owns the session. The nonces are
-- those of late commits, newest first; the fresh are so many of them, since that second. By
-- them a commit that is sent again is known, until a minute is over or 128 others have come,
-- at least. No field's name is this byte: it is not UTF-8.
local META = '\255'
local PARTS = '^(%S+) (%d+) (%d+) (%S+) (%d+) ([%d-]+) (%d+) (%d+) ()%S'
local MOST = 1e15  -- of all numbers together; a double holds it exactly
local NONCE_SIZE, MOST_NONCES, NONCES_LOOK, MINUTE = 8, 128, 16, 60

-- Returns a kind: alive, absent, destroyed, moved or foreign (not ours, or damaged: it is
--   left as it is), and of a record that is alive what META holds, of one that is moved
--   its key now, and until when (ms) the old one may be read.
local function look_at(key)
  local meta = redis.pcall('HGET', key, META)
  if type(meta) == 'string' then
    local incarnation, version, created, owner, size, ttl, since, fresh, at =
      string.match(meta, PARTS)
    local own = at and (ttl == '-' and 1 or tonumber(ttl))
    if not own or own <= 0 then return 'foreign' end
    version, created, size = version + 0, created + 0, size + 0
    since, fresh = since + 0, fresh + 0
    if version + created + size + own + since + fresh >= MOST then return 'foreign' end
    return 'alive', {incarnation = incarnation, version = version, created = created,
      owner = owner ~= '-' and owner or nil, size = size, ttl = ttl ~= '-' and own or nil,
      since = since, fresh = fresh, nonces = string.sub(meta, at)}
  end
  local held = redis.call('TYPE', key).ok
  if held == 'none' then return 'absent' end
  if held ~= 'string' then return 'foreign' end
  local mark = redis.call('GET', key)
  if mark == 'destroyed' then return mark end
  local till, to = string.match(mark, '^moved (%d+) (.+)$')
  if not to then return 'foreign' end
  return 'moved', {key = to, till = tonumber(till)}
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Drops the nonces that are known for long enough. Of fresh ones the last may be of just
-- now, as many as came since this was asked before.
local function age(meta)
  local now = math.floor(now_ms() / 1000)
  if now - meta.since > MINUTE or meta.fresh >= MOST_NONCES then
    if now - meta.since > 2 * MINUTE then meta.fresh = math.min(meta.fresh, NONCES_LOOK) end
    meta.nonces = string.sub(meta.nonces, 1, meta.fresh * NONCE_SIZE)
    meta.since, meta.fresh = now, 0
  end
end

-- Returns what META is to hold after a commit of that nonce. Asks for the time now and then.
local function packed(meta, nonce)
  if meta.fresh % NONCES_LOOK == 0 then age(meta) end
  local own = meta.ttl and string.format('%.0f', meta.ttl) or '-'
  return string.format('%s %.0f %.0f %s %.0f %s %.0f %.0f %s%s', meta.incarnation,
    meta.version, meta.created, meta.owner or '-', meta.size, own, meta.since,
    meta.fresh + 1, nonce, meta.nonces)
end

-- Returns how many commits came after the one of this nonce; nil if it is not known.
local function later_than(nonce, nonces)
  local at = string.find(nonces, nonce, 1, true)
  while at and (at - 1) % NONCE_SIZE ~= 0 do
    at = string.find(nonces, nonce, at + 1, true)
  end
  return at and (at - 1) / NONCE_SIZE
end

-- Returns for how many ms a record may still lie: its ttl, within its max_lifetime.
local function left_for(ttl, created, max_lifetime)
  if max_lifetime == 0 then return ttl end
  return math.min(ttl, created + max_lifetime - now_ms())
end

-- Returns whether a record that lies for so many ms is to be given what is left for it: at
-- most every touch_every, which a shorter life shortens in proportion.
local function is_due(now, left, touch_every, ttl)
  return now > left or now < left - touch_every * left / ttl
end

-- Writes, and changes nothing: a WAIT behind a second run is to be for something.
-- Returns the key.
local function written_again(key)
  local left = redis.call('PTTL', key)
  if left > 0 then redis.call('PEXPIRE', key, left) end
  return key
end

-- Calls a command with a table's items from one place to another, so many at a time as
-- Lua's stack bears.
local function in_parts(command, key, items, from, to)
  for first = from, to, 1000 do
    redis.call(command, key, unpack(items, first, math.min(first + 999, to)))
  end
end
