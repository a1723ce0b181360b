-- A distributor like Roraima's: 15 municipalities, their bairros, some hundred outages in every range and status, and the rows that
-- broke the system replaced. Deterministic: the same rows for every load, at times relative to the load.
CREATE SCHEMA radar;
SET search_path = radar;

CREATE TABLE municipio (codigo_ibge varchar(7) PRIMARY KEY, nome text NOT NULL, latitude numeric NOT NULL, longitude numeric NOT NULL);
INSERT INTO municipio VALUES
  ('1400027', 'Amajari',            3.6480, -61.3691), ('1400050', 'Alto Alegre',        2.9885, -61.3078),
  ('1400100', 'Boa Vista',          2.8235, -60.6758), ('1400159', 'Bonfim',             3.3615, -59.8333),
  ('1400175', 'Cantá',              2.6094, -60.6058), ('1400209', 'Caracaraí',          1.8270, -61.1304),
  ('1400233', 'Caroebe',            0.8842, -59.6959), ('1400282', 'Iracema',            2.1830, -61.0415),
  ('1400308', 'Mucajaí',            2.4398, -60.9096), ('1400407', 'Normandia',          3.8853, -59.6204),
  ('1400456', 'Pacaraima',          4.4799, -61.1477), ('1400472', 'Rorainópolis',       0.9460, -60.4380),
  ('1400506', 'São João da Baliza', 0.9510, -59.9133), ('1400605', 'São Luiz',           1.0136, -60.0419),
  ('1400704', 'Uiramutã',           4.6036, -60.1815);

CREATE TABLE bairro (codigo serial PRIMARY KEY, codigo_ibge varchar(7) NOT NULL REFERENCES municipio, nome varchar(200) NOT NULL, ucs int NOT NULL);
INSERT INTO bairro (codigo_ibge, nome, ucs) VALUES
  ('1400100', 'Centro', 2900), ('1400100', 'Asa Branca', 3400), ('1400100', 'Caimbé', 4100), ('1400100', 'Buritis', 2600),
  ('1400100', 'Cauamé', 3100), ('1400100', 'Cinturão Verde', 2200), ('1400100', 'Jardim Floresta', 2500), ('1400100', 'Liberdade', 2300),
  ('1400100', 'Mecejana', 2100), ('1400100', 'Paraviana', 2800), ('1400100', 'Pintolândia', 4600), ('1400100', 'Pricumã', 2000),
  ('1400100', 'São Francisco', 1700), ('1400100', 'São Vicente', 2400), ('1400100', 'Senador Hélio Campos', 6800),
  ('1400100', 'Tancredo Neves', 3600), ('1400100', '13 de Setembro', 2700), ('1400100', 'Jóquei Clube', 2900),
  ('1400100', 'Cidade Satélite', 5200), ('1400100', 'Distrito Industrial', 900), ('1400027', 'Centro', 700),
  ('1400027', 'Vila Brasil', 300), ('1400050', 'Centro', 1300), ('1400050', 'Taiano', 400), ('1400159', 'Centro', 1100),
  ('1400159', '13 de Maio', 500), ('1400175', 'Centro', 1400), ('1400175', 'Félix Pinto', 350), ('1400209', 'Centro', 2100),
  ('1400209', 'Nossa Senhora do Livramento', 800), ('1400209', 'São José', 600), ('1400233', 'Centro', 900), ('1400233', 'Entre Rios', 450),
  ('1400282', 'Centro', 1000), ('1400282', 'Campos Novos', 250), ('1400308', 'Centro', 1800), ('1400308', 'Sagrada Família', 550),
  ('1400407', 'Centro', 800), ('1400456', 'Centro', 1900), ('1400456', 'Suapi', 650), ('1400472', 'Centro', 3000),
  ('1400472', 'Novo Brasil', 700), ('1400472', 'Nova Colina', 500), ('1400506', 'Centro', 1100), ('1400506', 'Parque das Orquídeas', 300),
  ('1400605', 'Centro', 1000), ('1400704', 'Centro', 400), ('1400704', 'Água Fria', 150);

CREATE TABLE ocorrencia (
  linha bigserial PRIMARY KEY,
  id numeric, numero_ocorrencia varchar(50), codigo_ibge varchar(7), bairro varchar(200), latitude numeric, longitude numeric,
  data_inicio timestamp, tipo varchar(20), status_codigo varchar(10), ucs_afetadas numeric, equipes_designadas numeric,
  causa varchar(500), previsao_restabelecimento timestamp
);

-- Local time of the distributor, without a zone, as its Oracle has it.
CREATE FUNCTION agora() RETURNS timestamp LANGUAGE sql STABLE AS $$ SELECT date_trunc('second', now() AT TIME ZONE 'America/Boa_Vista') $$;

-- 322 orderly outages: 46 in each of the seven ranges of duration, every eleventh concluded.
INSERT INTO ocorrencia (id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude, data_inicio, tipo, status_codigo, ucs_afetadas,
                        equipes_designadas, causa, previsao_restabelecimento)
SELECT 700000 + i,
       '2026' || lpad(i::text, 7, '0'),
       m.codigo_ibge,
       b.nome,
       round(m.latitude + ((i * 37 % 41) - 20) * 0.0011, 6),
       round(m.longitude + ((i * 53 % 43) - 21) * 0.0012, 6),
       agora() - make_interval(mins => minutos),
       CASE WHEN i % 5 = 0 THEN 'PROGRAMADA' ELSE 'NAO_PROGRAMADA' END,
       CASE WHEN i % 11 = 0 THEN 'C' ELSE (ARRAY['P', 'D', 'E'])[1 + i % 3] END,
       1 + (i * 7919) % b.ucs,
       i % 4,
       (ARRAY['Queda de árvore sobre a rede', 'Descarga atmosférica', 'Manutenção preventiva programada', 'Abalroamento de poste',
              'Queima de transformador', 'Vegetação na rede', 'Vento forte', 'Animal na rede', NULL])[1 + i % 9],
       CASE WHEN i % 4 = 0 THEN NULL ELSE agora() + make_interval(mins => 30 + i % 240) END
  FROM (SELECT i, (ARRAY[5, 65, 185, 365, 725, 1445, 2885])[1 + i % 7] + (i * 13) % 45 AS minutos FROM generate_series(1, 322) AS i) AS serie
  JOIN bairro b ON b.codigo = 1 + (i * 17) % (SELECT count(*) FROM bairro)::int
  JOIN municipio m USING (codigo_ibge);

-- What must be repaired and counted, one row each; all are active and published.
INSERT INTO ocorrencia (id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude, data_inicio, tipo, status_codigo, ucs_afetadas,
                        equipes_designadas, causa, previsao_restabelecimento) VALUES
  (800001, 'R-PREVISAO',   '1400100', 'Centro', 2.82, -60.67, agora() - interval '2 hours', 'NAO_PROGRAMADA', 'E', 10, 1, 'Previsão antes do início', agora() - interval '3 hours'),
  (800002, 'R-SEM-COORD',  '1400100', 'Centro', NULL, NULL, agora() - interval '2 hours', 'NAO_PROGRAMADA', 'E', 11, 1, 'Sem coordenadas', NULL),
  (800003, 'R-FORA',       '1400100', 'Centro', -23.55, -46.63, agora() - interval '2 hours', 'NAO_PROGRAMADA', 'E', 12, 1, 'Coordenadas em São Paulo', NULL),
  (800004, 'R-MUNICIPIO',  '9999999', 'Nao informado', 2.82, -60.67, agora() - interval '2 hours', 'NAO_PROGRAMADA', 'D', 13, 1, 'Município desconhecido', NULL),
  (800005, 'R-TIPO',       '1400100', 'Centro', 2.82, -60.67, agora() - interval '2 hours', 'EMERGENCIAL', 'D', 14, 1, 'Tipo desconhecido', NULL),
  (800006, 'R-FUTURO',     '1400100', 'Centro', 2.82, -60.67, agora() + interval '4 minutes', 'NAO_PROGRAMADA', 'P', 15, 0, 'Relógio adiantado', NULL),
  -- Nothing to repair: the equator crosses Roraima, a status may be absent, text is data.
  (800007, 'OK-EQUADOR',   '1400472', 'Equador', 0.0, -60.44, agora() - interval '20 minutes', 'NAO_PROGRAMADA', 'E', 16, 2, 'Na linha do equador', NULL),
  (800008, 'OK-STATUS',    '1400100', 'Centro', 2.82, -60.67, agora() - interval '20 minutes', 'NAO_PROGRAMADA', NULL, 17, 0, 'Sem status', NULL),
  (800009, 'OK-HTML',      '1400100', 'Centro', 2.82, -60.67, agora() - interval '20 minutes', 'NAO_PROGRAMADA', 'E', 18, 1, '<script>alert("x")</script><b>&amp;</b>', NULL),
  (800010, 'OK-CONTROLE',  '1400100', 'Centro', 2.82, -60.67, agora() - interval '20 minutes', 'NAO_PROGRAMADA', 'E', 19, 1, E'tab\t nova\nlinha \x1b[31mvermelho\x1b[0m \x07 "aspas" \\barra', NULL),
  (800011, 'OK-UTF8',      '1400100', 'Centro', 2.82, -60.67, agora() - interval '20 minutes', 'NAO_PROGRAMADA', 'E', 20, 1, 'Raio ⚡ 🌩️ 𝔛 até o poste nº 5', NULL),
  (800012, 'OK-LONGA',     '1400100', 'Centro', 2.82, -60.67, agora() - interval '20 minutes', 'NAO_PROGRAMADA', 'E', 21, 1, repeat('á', 500), NULL);

-- What must be quarantined and counted: seven rows. The second row of id 700001 is a duplicate; the first is kept.
INSERT INTO ocorrencia (id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude, data_inicio, tipo, status_codigo, ucs_afetadas,
                        equipes_designadas, causa, previsao_restabelecimento) VALUES
  (NULL,   'Q-SEM-ID',     '1400100', 'Centro', 2.82, -60.67, agora() - interval '1 hour', 'NAO_PROGRAMADA', 'E', 5, 1, NULL, NULL),
  (700001, 'Q-DUPLICADA',  '1400100', 'Centro', 2.82, -60.67, agora() - interval '1 hour', 'NAO_PROGRAMADA', 'E', 5, 1, NULL, NULL),
  (800103, 'Q-SEM-INICIO', '1400100', 'Centro', 2.82, -60.67, NULL, 'NAO_PROGRAMADA', 'E', 5, 1, NULL, NULL),
  (800104, 'Q-SEM-UCS',    '1400100', 'Centro', 2.82, -60.67, agora() - interval '1 hour', 'NAO_PROGRAMADA', 'E', NULL, 1, NULL, NULL),
  (800105, 'Q-NEGATIVA',   '1400100', 'Centro', 2.82, -60.67, agora() - interval '1 hour', 'NAO_PROGRAMADA', 'E', -5, 1, NULL, NULL),
  (800106, 'Q-EQUIPES',    '1400100', 'Centro', 2.82, -60.67, agora() - interval '1 hour', 'NAO_PROGRAMADA', 'E', 5, -1, NULL, NULL),
  (800107, 'Q-FUTURO',     '1400100', 'Centro', 2.82, -60.67, agora() + interval '7 days', 'PROGRAMADA', 'P', 5, 0, 'Futuro distante', NULL);

CREATE MATERIALIZED VIEW mv_portal_publico AS
SELECT linha, id, numero_ocorrencia, codigo_ibge, bairro, latitude, longitude,
       -- A clock that runs ahead is ahead at every refresh.
       CASE numero_ocorrencia WHEN 'R-FUTURO' THEN agora() + interval '4 minutes' ELSE data_inicio END AS data_inicio, tipo, status_codigo, ucs_afetadas,
       equipes_designadas, causa, previsao_restabelecimento, agora() AS ultima_atualizacao
  FROM ocorrencia
  WITH NO DATA;
-- The ids of a broken source repeat and are missing: the index is on a key that is neither.
CREATE UNIQUE INDEX mv_portal_publico_linha ON mv_portal_publico (linha);
