-- What every script of the store begins with: what lies at a key, and how long it may.

-- Returns a kind: alive, absent, destroyed, moved or foreign (not ours, or damaged: it is
--   left as it is), and of a record that is alive what it holds beside its fields.
local function look_at(key)
  local held = redis.call('TYPE', key).ok
  if held == 'none' then return 'absent' end
  if held == 'string' then
    local mark = redis.call('GET', key)
    return (mark == 'destroyed' or mark == 'moved') and mark or 'foreign'
  end
  if held ~= 'hash' then return 'foreign' end
  local meta = redis.call('HMGET', key,
    '@incarnation', '@commits', '@version', '@created', '@size', '@ttl')
  for i = 3, 5 do
    meta[i] = meta[i] and string.match(meta[i], '^%d+$') and tonumber(meta[i])
  end
  if not (meta[1] and meta[2] and meta[3] and meta[4] and meta[5]) then return 'foreign' end
  return 'alive', {incarnation = meta[1], commits = meta[2], version = meta[3],
    created = meta[4], size = meta[5], ttl = tonumber(meta[6] or '')}
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns for how many ms a record may still lie: its ttl, within its max_lifetime.
local function left_for(ttl, created, max_lifetime)
  if max_lifetime == 0 then return ttl end
  return math.min(ttl, created + max_lifetime - now_ms())
end
