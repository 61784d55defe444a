-- Replaces the tree of one cell and cuts off the part of the tail that is in it now.
-- KEYS: cells, nodes
-- ARGV: generation, epoch, key, folds before, length of the folded tail, header and tree of the new
--       root, number of removed nodes, their fields, then pairs of field and value of changed nodes
-- Reply: {OK}; {DONE} if this fold is in already; {LOST}; {FENCED, epoch}; {CHANGED}.
local witness = redis.call('HGET', KEYS[1], '')
if not witness or #witness ~= 42 or string.sub(witness, 1, 17) ~= '\1' .. ARGV[1] then
  return {'LOST'}
end
local epoch = string.sub(witness, 18, 25)
-- An older epoch is a state from before this writer: nothing of it is to be folded.
if epoch ~= ARGV[2] then
  local e1, e2 = struct.unpack('>I4I4', epoch)
  local m1, m2 = struct.unpack('>I4I4', ARGV[2])
  if m1 < e1 or (m1 == e1 and m2 < e2) then return {'FENCED', epoch} end
  return {'CHANGED'}
end
local root = redis.call('HGET', KEYS[1], ARGV[3])
if not root then return {'CHANGED'} end
local length = struct.unpack('>I4', string.sub(root, 2, 5))
local folds = '\0\0\0\0'
if length > 0 then folds = string.sub(root, 6, 9) end
if folds ~= ARGV[4] then
  if folds == string.sub(ARGV[6], 6, 9) then return {'DONE'} end
  return {'CHANGED'}
end
local folded = tonumber(ARGV[5])
if #root - 5 - length < folded then return {'CHANGED'} end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[6] .. string.sub(root, 6 + length + folded))
local removed = tonumber(ARGV[7])
local step = 1000
for first = 8, 7 + removed, step do
  redis.call('HDEL', KEYS[2], unpack(ARGV, first, math.min(first + step - 1, 7 + removed)))
end
for first = 8 + removed, #ARGV, 2 * step do
  redis.call('HSET', KEYS[2], unpack(ARGV, first, math.min(first + 2 * step - 1, #ARGV)))
end
return {'OK'}
