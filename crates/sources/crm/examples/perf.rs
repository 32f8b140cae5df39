use std::sync::Arc; use actlog_core::*; use actlog_source_crm::*;
struct Null; 
#[async_trait::async_trait] impl Emit for Null {
 fn prepare(&self,_:&str,r:Vec<AuditRecord<'_>>,_:Option<Vec<u8>>)->Result<Prepared,EmitError>{ if std::env::var_os("ENC").is_some() { let mut v=Vec::with_capacity(1<<20); for x in &r { x.encode(&mut v).unwrap(); } std::hint::black_box(&v);} Ok(Prepared::new(r.len())) }
 async fn submit(&self,p:Prepared)->Result<Receipt,EmitError>{ let n=p.into_inner::<usize>().unwrap(); Ok(Receipt::new(async move { Ok(Committed{written:n as u64,..Default::default()}) })) }
 async fn reject(&self,_:&str,i:RejectedInput<'_>)->Result<(),EmitError>{ panic!("{} {}",i.place,i.reason) }
 fn pressure(&self)->Option<EmitError>{None} }
fn main(){ let rt=tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
 let path=std::env::args().nth(1).unwrap();
 rt.block_on(async { let c:CrmConfig=actlog_core::config::deserialize(serde_json::json!({"path":path})).unwrap();
 let cx=BuildContext::new("/tmp",Arc::new(actlog_testkit::storage::FaultStorage::new(0)),Arc::new(SystemClock));
 let s=<CrmSource as SourcePlugin>::build(&c,&cx).await.unwrap();
 let m=Metrics::default(); let t=std::time::Instant::now();
 Source::run(Box::new(s),SourceContext::new(Emitter::new("x",Arc::new(Null)),None,Default::default(),m.clone(),Default::default())).await.unwrap();
 let st=std::fs::read_to_string("/proc/self/stat").unwrap(); let f:Vec<_>=st.rsplit(')').next().unwrap().split_whitespace().collect(); let cpu=(f[11].parse::<f64>().unwrap()+f[12].parse::<f64>().unwrap())/100.0;
 let n:f64=m.encode().lines().find(|l|l.starts_with("actlog_source_received_total")).unwrap().rsplit(' ').next().unwrap().parse().unwrap();
 println!("{n} in {:?}, cpu {cpu:.2}, {:.0} per core-second, {:.0}/s", t.elapsed(), n/cpu, n/t.elapsed().as_secs_f64()); }); }
